// `application/vnd.amazon.eventstream`, Bedrock's: frames with headers and a payload. Of each frame
// the headers are read, of an exception its payload, too. Check sums are left to the SDK.
//
//   total length, length of the headers, check sum (4 bytes each), headers, payload, check sum (4)

import type { Happening, Reader } from "./sse.ts"

const [PRELUDE, CHECK] = [12, 4]
const LONG = 64 * 1024 // bytes of a frame: a longer one is passed over, an exception is short
const LONGEST = 24 * 1024 * 1024 // more than AWS allows: this is no event stream
const STRING = 7
/** Bytes of a header's value by its type; the others begin with their length. */
const SIZES = [0, 0, 1, 2, 4, 8, undefined, undefined, 8, 16]

export function eventStream(): Reader {
  let rest: Uint8Array = new Uint8Array()
  let passed = 0 // bytes that are still to be passed over
  let isLost = false

  function frame(): Happening[] | undefined {
    if (rest.length < PRELUDE) return
    const view = new DataView(rest.buffer, rest.byteOffset, rest.length)
    const [total, headers] = [view.getUint32(0), view.getUint32(4)]
    isLost = total > LONGEST || PRELUDE + headers + CHECK > total
    if (isLost) return
    if (total > LONG) {
      passed = total
      return [{ name: "", data: "" }]
    }
    if (rest.length < total) return
    const payload = PRELUDE + headers
    const named = headersOf(rest.subarray(PRELUDE, payload))
    const event = eventOf(named, rest.subarray(payload, total - CHECK))
    rest = rest.subarray(total)
    return [event]
  }

  function skip() {
    const gone = Math.min(passed, rest.length)
    rest = rest.subarray(gone)
    passed -= gone
  }

  function read(chunk: Uint8Array): Happening[] {
    if (isLost) return []
    rest = joined(rest, chunk)
    const events: Happening[] = []
    for (;;) {
      skip()
      const found = frame()
      if (!found) return events
      events.push(...found)
    }
  }

  return { read, end: () => [] }
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (!first.length) return second
  const both = new Uint8Array(first.length + second.length)
  both.set(first)
  both.set(second, first.length)
  return both
}

/** Headers of type string by name; what is no list of headers gives none. */
function headersOf(bytes: Uint8Array): Map<string, string> {
  const found = new Map<string, string>()
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const text = (from: number, length: number) =>
    new TextDecoder().decode(bytes.subarray(from, from + length))
  let at = 0
  while (at < bytes.length) {
    const length = view.getUint8(at)
    const name = text(at + 1, length)
    at += 1 + length
    if (at + 3 > bytes.length) break
    const type = view.getUint8(at)
    const size = SIZES[type] ?? view.getUint16(at + 1) + 2
    if (type === STRING) found.set(name, text(at + 3, size - 2))
    at += 1 + size
  }
  return found
}

function eventOf(headers: Map<string, string>, payload: Uint8Array): Happening {
  const kind = headers.get(":message-type")
  if (kind !== "exception" && kind !== "error") return { name: "", data: "" }
  const type = headers.get(":exception-type") ?? headers.get(":error-code") ?? "exception"
  const said = new TextDecoder().decode(payload)
  return {
    name: "error",
    data: JSON.stringify({ __type: type, message: messageOf(headers, said) }),
  }
}

function messageOf(headers: Map<string, string>, payload: string): unknown {
  try {
    return JSON.parse(payload).message
  } catch {
    return headers.get(":error-message") ?? payload
  }
}

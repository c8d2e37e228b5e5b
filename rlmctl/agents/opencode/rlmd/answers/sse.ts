// Server-Sent Events, as the standard has them, and lines of JSON. What is long is passed over:
// an error is short.

const LONG = 64 * 1024 // characters of a line, and of the data of an event

/** What came: an event's name, where it has one, and its data. */
export type Happening = { name: string; data: string }

/** Reads an answer along, chunk by chunk, wherever the chunks may end. */
export interface Reader {
  read(chunk: Uint8Array): Happening[]
  /** What was left without an end. */
  end(): Happening[]
}

/** Gives whole lines, which may end in CR, LF or both. Each character is looked at once. */
class Lines {
  #decoder = new TextDecoder()
  #rest = ""
  #isLong = false
  #endedInCr = false

  read(chunk: Uint8Array): string[] {
    const text = this.#decoder.decode(chunk, { stream: true })
    const pieces = (this.#endedInCr ? text.replace(/^\n/, "") : text).split(/\r\n|\n|\r/)
    if (text) this.#endedInCr = text.endsWith("\r")
    const last = pieces.pop() ?? ""
    const lines = pieces.flatMap((piece) => {
      this.#add(piece)
      return this.#taken()
    })
    this.#add(last)
    return lines
  }

  end(): string[] {
    this.#add(this.#decoder.decode())
    return this.#rest ? this.#taken() : []
  }

  #add(piece: string) {
    this.#isLong ||= this.#rest.length + piece.length > LONG
    this.#rest = this.#isLong ? "" : this.#rest + piece
  }

  #taken(): string[] {
    const lines = this.#isLong ? [] : [this.#rest]
    this.#rest = ""
    this.#isLong = false
    return lines
  }
}

/** `text/event-stream`. An event that the stream's end cuts off is one, too: it may be the error. */
export function sse(): Reader {
  const lines = new Lines()
  let [name, data, size] = ["", [] as string[], 0]

  function ended(): Happening[] {
    const event = { name, data: data.join("\n") }
    const isEvent = (data.length > 0 || name === "error") && size <= LONG
    name = ""
    data = []
    size = 0
    return isEvent ? [event] : []
  }

  function take(line: string): Happening[] {
    if (line === "") return ended()
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line) ?? []
    if (field === "event") name = value ?? ""
    if (field === "data") {
      size += line.length
      if (size <= LONG) data.push(value ?? "")
    }
    return []
  }

  return {
    read: (chunk) => lines.read(chunk).flatMap(take),
    end: () => [...lines.end().flatMap(take), ...ended()],
  }
}

/** `application/x-ndjson` and its like: a line is an event. */
export function lines(): Reader {
  const reader = new Lines()
  const events = (found: string[]) =>
    found.filter((line) => line.trim()).map((data) => ({ name: "", data }))
  return { read: (chunk) => events(reader.read(chunk)), end: () => events(reader.end()) }
}

/** `application/json`: the whole is one event, if it is short. */
export function whole(): Reader {
  const decoder = new TextDecoder()
  let text = ""
  let isLong = false
  return {
    read: (chunk) => {
      isLong ||= text.length + chunk.length > LONG
      text = isLong ? "" : text + decoder.decode(chunk, { stream: true })
      return []
    },
    end: () => (isLong || !text ? [] : [{ name: "", data: text + decoder.decode() }]),
  }
}

/** Of what is no text only that it has begun is told. */
export function unread(): Reader {
  return { read: () => [{ name: "", data: "" }], end: () => [] }
}

// Hands an answer on and reads along. Whoever fails is told apart: the source, which is the provider,
// or the reader, which is OpenCode. A source that is given up is closed.

import { note } from "../debug.ts"
import { withBody } from "./body.ts"
import { eventStream } from "./eventstream.ts"
import { errorIn } from "./errors.ts"
import type { Redaction } from "./redaction.ts"
import { lines, sse, unread, whole, type Reader } from "./sse.ts"

/** What the reader gets instead of the rest: an early end, or an error. */
export type Instead = "end" | Error | undefined

/** Hears how an answer goes; of `failed` to `left` one is called, once. */
export interface Listener {
  /** The first byte has come. */
  byte?(): void
  /** The first event has come, and is no error. */
  begun?(): void
  failed(body: string): Promise<Instead>
  broke(error: unknown): Promise<Instead>
  ended(): unknown
  left(): unknown
  /** Ends the request: OpenCode's runtime leaves it open where its answer alone is given up. */
  close?(): void
}

const SHORT = 64 * 1024 // bytes of JSON that are read

/** Whether it is worth it: of a long JSON document only the end would tell, and it is the answer. */
export function isFollowed({ body, bodyUsed, headers }: Response): boolean {
  const isLong = typeOf(headers) === "application/json" && lengthOf(headers) > SHORT
  return body !== null && !bodyUsed && !body.locked && !isLong
}

const typeOf = (headers: Headers) =>
  headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() ?? ""
const lengthOf = (headers: Headers) => Number(headers.get("content-length") ?? 0)

function readerFor(headers: Headers): Reader {
  const type = typeOf(headers)
  if (type === "application/vnd.amazon.eventstream") return eventStream()
  if (type === "application/json") return whole()
  if (/ndjson|jsonl|stream\+json|json-seq/.test(type)) return lines()
  if (/^(?:image|audio|video)\/|octet-stream/.test(type)) return unread()
  return sse() // some call it text/plain, or nothing at all
}

/** The answer as it comes. Nothing is read before OpenCode reads, beyond one chunk. */
export function follow(response: Response, redaction: Redaction, listener: Listener): Response {
  if (!response.body) return response
  const source = new Following(response.body, readerFor(response.headers), redaction, listener)
  return withBody(response, new ReadableStream(source))
}

class Following implements UnderlyingDefaultSource<Uint8Array> {
  readonly #chunks: ReadableStreamDefaultReader<Uint8Array>
  #reader: Reader
  readonly #redaction: Redaction
  readonly #listener: Listener
  #hasByte = false
  #hasBegun = false
  #isOver = false // its end is told

  constructor(
    body: ReadableStream<Uint8Array>,
    reader: Reader,
    redaction: Redaction,
    listener: Listener,
  ) {
    this.#chunks = body.getReader() // at once: OpenCode's runtime has none for a body that has come
    this.#reader = reader
    this.#redaction = redaction
    this.#listener = listener
  }

  async pull(out: ReadableStreamDefaultController<Uint8Array>) {
    let next: ReadableStreamReadResult<Uint8Array>
    try {
      next = await this.#chunks.read()
    } catch (error) {
      if (this.#isOver) return out.error(error)
      this.#isOver = true
      return this.#finish(out, (await this.#listener.broke(error)) ?? error)
    }
    const error = this.#isOver ? undefined : this.#errorOf(next)
    const instead = error && (await this.#listener.failed(error))
    if (instead) return this.#finish(out, instead)
    if (!next.done) return out.enqueue(next.value)
    if (!this.#isOver) this.#listener.ended()
    this.#isOver = true
    out.close()
  }

  cancel(reason: unknown) {
    if (!this.#isOver) this.#listener.left()
    this.#isOver = true
    this.#close(reason)
  }

  /** OpenCode gets an answer whole, also where the shim fails at reading along. */
  #errorOf(next: ReadableStreamReadResult<Uint8Array>): string | undefined {
    try {
      return this.#errorIn(next)
    } catch (error) {
      note("an answer could not be read along", error)
      this.#reader = unread()
      return undefined
    }
  }

  #errorIn({ value }: ReadableStreamReadResult<Uint8Array>): string | undefined {
    if (value && !this.#hasByte) this.#listener.byte?.()
    this.#hasByte ||= value !== undefined
    const events = value ? this.#reader.read(value) : this.#reader.end()
    const errors = events.map((event) => errorIn(event, this.#redaction))
    const begins = value && !this.#hasBegun && events.length > 0 && errors[0] === undefined
    if (begins) this.#listener.begun?.() // of one that has ended more is told
    this.#hasBegun ||= events.length > 0
    const error = errors.find((body) => body !== undefined)
    this.#isOver = error !== undefined
    return error
  }

  #finish(out: ReadableStreamDefaultController<Uint8Array>, instead: unknown) {
    this.#close()
    if (instead === "end") out.close()
    else out.error(instead)
  }

  #close(reason?: unknown) {
    void this.#chunks.cancel(reason).catch(() => {})
    this.#listener.close?.()
  }
}

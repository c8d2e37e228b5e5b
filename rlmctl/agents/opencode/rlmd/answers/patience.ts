// An answer that is silent for too long breaks off. Until its first word that is `first_byte`: a model may
// think for long, also behind an event that says no more than that it does. From then on it is `stall`.

import { withBody } from "./body.ts"

/** A member of an event that holds a part of an answer, and is not empty. */
const WORD =
  /"(?:text|content|delta|thinking|reasoning(?:_content)?|partial_json|arguments|signature)"\s*:\s*"[^"]/

type Patience = { first_byte_ms: number; stall_ms: number }

/** The same response, whose body fails where nothing comes in time. 0 ms is for ever. */
export function patiently(response: Response, patience: Patience): Response {
  const { first_byte_ms: first, stall_ms: stall } = patience
  if (!response.body || !(first || stall)) return response
  return withBody(response, new ReadableStream(new Patient(response.body, first, stall)))
}

class Patient implements UnderlyingDefaultSource<Uint8Array> {
  readonly #chunks: ReadableStreamDefaultReader<Uint8Array>
  readonly #decoder = new TextDecoder()
  readonly #first: number
  readonly #stall: number
  #hasSpoken = false

  constructor(body: ReadableStream<Uint8Array>, first: number, stall: number) {
    this.#chunks = body.getReader()
    this.#first = first
    this.#stall = stall
  }

  async pull(out: ReadableStreamDefaultController<Uint8Array>) {
    try {
      const { done, value } = await this.#inTime()
      if (done) return out.close()
      this.#hasSpoken ||= WORD.test(this.#decoder.decode(value, { stream: true }))
      out.enqueue(value)
    } catch (error) {
      out.error(error)
      void this.#chunks.cancel(error).catch(() => {})
    }
  }

  cancel(reason: unknown) {
    return this.#chunks.cancel(reason)
  }

  async #inTime(): Promise<ReadableStreamReadResult<Uint8Array>> {
    const ms = this.#hasSpoken ? this.#stall : this.#first
    if (!ms) return this.#chunks.read()
    let timer: ReturnType<typeof setTimeout> | undefined
    const late = new Promise<never>((_, reject) => {
      const message = `timed out: nothing in ${ms} ms`
      timer = setTimeout(() => reject(new DOMException(message, "TimeoutError")), ms)
    })
    try {
      return await Promise.race([this.#chunks.read(), late])
    } finally {
      clearTimeout(timer)
    }
  }
}

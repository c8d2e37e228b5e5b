// A request on its way: held until the daemon has said where to, sent, and its answer read along.

import { peek } from "../answers/body.ts"
import { asError, causeOf } from "../answers/causes.ts"
import { factsOf } from "../answers/errors.ts"
import { follow, isFollowed, type Instead } from "../answers/follow.ts"
import type { Redaction } from "../answers/redaction.ts"
import type { Attempt } from "./attempt.ts"
import { divert } from "./diversion.ts"
import { isPersonsStop } from "./internals.ts"
import type { Happening } from "./table.ts"

export type Fetch = (signal?: AbortSignal) => Promise<Response>

/** Sends the request, or gives OpenCode something in its stead. */
export async function send(
  attempt: Attempt,
  fetch: Fetch,
  redaction: Redaction,
  stop?: AbortSignal,
): Promise<Response> {
  await attempt.on("fetch")
  const word = await attempt.word()
  if (stop?.aborted) {
    await attempt.on("stopped")
    return fetch(stop)
  }
  const instead = await divert(attempt, word)
  if (instead) {
    await attempt.on("diverted")
    return instead
  }
  await attempt.on(word?.type === "pass" ? "unmanaged" : "goes")
  if (word?.type === "pass") return fetch(stop)
  return new Exchange(attempt, redaction, stop, word !== undefined).run(fetch)
}

class Exchange {
  readonly #attempt: Attempt
  readonly #redaction: Redaction
  /** OpenCode's runtime closes a connection only where the request itself is aborted. */
  readonly #cut = new AbortController()
  readonly #signal: AbortSignal
  /** Whether there is a daemon that would act on what comes. */
  readonly #isHeard: boolean
  #timer: ReturnType<typeof setTimeout> | undefined // of the first byte

  constructor(
    attempt: Attempt,
    redaction: Redaction,
    stop: AbortSignal | undefined,
    isHeard: boolean,
  ) {
    this.#attempt = attempt
    this.#redaction = redaction
    this.#signal = stop ? AbortSignal.any([stop, this.#cut.signal]) : this.#cut.signal
    this.#isHeard = isHeard
  }

  async run(fetch: Fetch): Promise<Response> {
    if (this.#isHeard) this.#expectFirstByte()
    try {
      const response = await fetch(this.#signal)
      if (!response.ok) return await this.#refused(response)
      if (this.#isHeard && isFollowed(response)) return this.#followed(response)
      clearTimeout(this.#timer)
      // Nobody would act on more, or waits for it.
      setImmediate(() => void this.#attempt.on("answered", factsOf(response, this.#redaction)))
      return response
    } catch (error) {
      const better = await this.#broke(error)
      if (better) return better
      throw error
    }
  }

  #expectFirstByte(): void {
    const patience = this.#attempt.around.daemon.settings.first_byte_ms
    if (!patience) return
    const message = `timed out: nothing in ${patience} ms`
    const onLate = () => this.#cut.abort(new DOMException(message, "TimeoutError"))
    this.#timer = setTimeout(onLate, patience)
  }

  async #refused(refusal: Response): Promise<Response> {
    clearTimeout(this.#timer)
    const { text, response } = await peek(refusal)
    const better = await this.#attempt.on("refused", factsOf(response, this.#redaction, text))
    if (better) this.#cut.abort() // nobody reads the rest
    return better ?? response
  }

  #broke(error: unknown): Promise<Response | undefined> {
    clearTimeout(this.#timer)
    const happening: Happening = isPersonsStop(this.#signal) ? "stopped" : "broke"
    return this.#attempt.on(happening, { message: causeOf(error, this.#redaction) })
  }

  /** The answer as it comes. Where it fails and the daemon knows better, OpenCode tries again. */
  #followed(response: Response): Response {
    const facts = factsOf(response, this.#redaction)
    return follow(response, this.#redaction, {
      byte: () => clearTimeout(this.#timer),
      begun: () => void this.#attempt.on("begun", facts),
      failed: async (body) => this.#rest(await this.#attempt.on("failed", { ...facts, body })),
      broke: async (error) => this.#rest(await this.#broke(error)),
      ended: () => void this.#attempt.on("finished"),
      left: () => void this.#attempt.on("left"),
      close: () => this.#cut.abort(),
    })
  }

  /** What OpenCode reads in place of the rest of an answer. */
  async #rest(better: Response | undefined): Promise<Instead> {
    if (!better) return undefined
    return this.#attempt.toolStarted ? "end" : asError(better)
  }
}

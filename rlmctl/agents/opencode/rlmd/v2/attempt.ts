// One request of OpenCode 2.x: what the daemon is told of it, and what the daemon says to its failure.

import { peek } from "../answers/body.ts"
import { causeOf } from "../answers/causes.ts"
import { factsOf, type Facts } from "../answers/errors.ts"
import { follow, isFollowed } from "../answers/follow.ts"
import { patiently } from "../answers/patience.ts"
import { Redaction, UNSEEN } from "../answers/redaction.ts"
import type { Connection } from "../daemon/connection.ts"
import { isSame, type Decision, type Target, type Use, type Wait } from "../daemon/messages.ts"
import type { Retry } from "./host.ts"

type Next = Promise<Use | Wait | undefined>
type Outcome = "accepted" | "ok" | "error" | "cancelled"
export type Usage = Record<string, number>
type Told = { message?: string; usage?: Usage } & Partial<Facts>

/** A request as it was about to be sent. */
export type Sent = { url: string; headers: Headers; body: ArrayBuffer }

/** What is known of a request; of one that has passed the hooks by neither its kind nor what was sent. */
type About = { session: string; place: Target; kind?: string; sent?: Sent }

export class Attempt {
  readonly place: Target
  readonly isCompaction: boolean
  readonly sent: Sent | undefined
  /** It was not sent: that is what the daemon said instead. */
  held: Use | Wait | undefined
  /** The first event of its answer has come. */
  onBegun: () => void = () => {}

  readonly #daemon: Connection
  readonly #session: string
  readonly #lease: string // the daemon's or one of our own: what has a name counts once
  readonly #started = new Date().toISOString()
  readonly #redaction: Redaction
  #isOver = false // its last report is made, or none is due
  #next: Next | undefined // what the daemon says to its failure; there once it is answered

  constructor(daemon: Connection, { session, place, kind, sent }: About, word?: Decision) {
    this.#daemon = daemon
    this.#session = session
    this.place = place
    this.isCompaction = kind === "compaction"
    this.sent = sent
    const isHere = word?.type === "use" && isSame(word, place)
    this.#lease = (isHere ? word.lease : undefined) ?? crypto.randomUUID()
    this.#isOver = word?.type === "pass"
    this.#redaction = new Redaction(sent ?? { body: UNSEEN })
  }

  /** The request is not sent. */
  hold(word: Use | Wait): void {
    this.held = word
    this.#isOver = true
  }

  /** The answer as OpenCode gets it. Where it fails, OpenCode asks what to do: see `next`. */
  async read(response: Response): Promise<Response> {
    const facts = factsOf(response, this.#redaction)
    if (!response.ok) {
      const refusal = await peek(response)
      this.#next = this.#report("error", factsOf(response, this.#redaction, refusal.text))
      return refusal.response
    }
    if (!isFollowed(response)) {
      this.onBegun()
      this.#next = this.#report("ok", facts)
      return response
    }
    let settle: (next: Next) => void = () => {}
    this.#next = new Promise((resolve) => {
      settle = resolve
    })
    const end = async (outcome: Outcome, told: Told) => {
      settle(this.#report(outcome, told))
      return undefined // what OpenCode gets is the provider's own
    }
    return follow(patiently(response, this.#daemon.settings), this.#redaction, {
      begun: () => {
        void this.#report("accepted", facts)
        this.onBegun()
      },
      failed: (body) => end("error", { ...facts, body }),
      broke: (error) => {
        const isStop = error instanceof Error && error.name === "AbortError"
        return end(isStop ? "cancelled" : "error", { message: causeOf(error, this.#redaction) })
      },
      ended: () => end("ok", facts),
      left: () => end("cancelled", {}),
    })
  }

  /** Where its step goes on, now that it has failed; undefined where nobody knows better than OpenCode. */
  async next(error: Retry["error"]): Next {
    if (this.held) return this.held
    const ms = this.#daemon.settings.daemon_timeout_ms
    const late = new Promise<undefined>((done) => setTimeout(done, ms, undefined).unref())
    const heard = await Promise.race([this.#next, late]).catch(() => undefined)
    return heard ?? this.#report("error", this.#failure(error))
  }

  #failure({ type: name, message, status }: Retry["error"]): Told {
    const facts = factsOf({ status, headers: new Headers() }, this.#redaction)
    return { ...facts, message: causeOf({ name, message }, this.#redaction) }
  }

  /** OpenCode says what it has used. */
  async meter(usage: Usage): Promise<void> {
    if (this.#next) await this.#daemon.ask("usage", { ...this.#facts(), usage })
    else await this.#report("ok", { usage }) // it has passed the hooks by
  }

  /** OpenCode goes on: a request without an answer gets none any more. */
  giveUp(): void {
    if (!this.#next) void this.#report("cancelled")
  }

  #facts() {
    return { ...this.place, session: this.#session, lease: this.#lease }
  }

  /** There is one last report, whoever comes first. */
  async #report(outcome: Outcome, told: Told = {}): Next {
    if (this.#isOver) return undefined
    this.#isOver = outcome !== "accepted"
    const fields = { ...this.#facts(), started_at: this.#started, outcome, ...told }
    const recorded = await this.#daemon.ask("report", fields)
    return recorded?.type === "recorded" ? recorded.next : undefined
  }
}

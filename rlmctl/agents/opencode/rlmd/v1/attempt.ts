// One request of OpenCode 1.x, from its announcement to its last report: see table.ts for its life.

import type { Model } from "@opencode-ai/sdk"
import { peek } from "../answers/body.ts"
import { asError, causeOf } from "../answers/causes.ts"
import { factsOf, type Facts } from "../answers/errors.ts"
import { follow, isFollowed, type Instead } from "../answers/follow.ts"
import type { Redaction } from "../answers/redaction.ts"
import type { Connection } from "../daemon/connection.ts"
import { isSame, type Decision, type Target, type Use, type Wait } from "../daemon/messages.ts"
import { dropForeignSignatures } from "./history.ts"
import { isPersonsStop } from "./internals.ts"
import { latestWord, Question, type About } from "./question.ts"
import type { Session } from "./session.ts"
import { standIn, TURN_ENDS } from "./stand-in.ts"
import { placeOf, type Entry, type Switching } from "./switching.ts"
import { onPassedBy } from "./tagged-fetch.ts"
import { TABLE, type Action, type Happening, type State } from "./table.ts"

const CANNOT_SERVE = ["cooldown", "limit", "disabled", "fallback_model"] // reasons to ask another one
const WORTH_A_WORD = 3000 // ms of waiting

/** What an attempt needs of its project. */
export type Surroundings = {
  readonly daemon: Connection
  readonly switching: Switching
  readonly tell: (fact: string, word: string, message: string) => void
}

export type Fetch = (signal?: AbortSignal) => Promise<Response>
type Usage = Record<string, number>
type Told = { message?: string; usage?: Usage } & Partial<Facts>

export class Attempt {
  /** Leads from the announcement to fetch. */
  readonly id = crypto.randomUUID()
  readonly live: Model
  readonly entry: Entry
  /** A title or summary (`aux`) cannot be moved: OpenCode starts none anew. */
  readonly purpose: "step" | "aux"
  /** A tool that the answer called is running: the step must not be asked for again. */
  toolStarted = false
  /** The way of the request to fetch is marked. */
  isTagged = false
  state: State = "announced"

  readonly #around: Surroundings
  readonly #session: Session
  readonly place: Target
  readonly #about: About
  readonly #began = Date.now()
  #ahead: Question | undefined
  #lease: string | undefined // the daemon's or one of our own: what has a name counts once
  #started: string | undefined
  #timer: ReturnType<typeof setTimeout> | undefined // of the first byte

  constructor(around: Surroundings, session: Session, agent: string, live: Model, entry: Entry) {
    this.#around = around
    this.#session = session
    this.live = live
    this.entry = entry
    this.purpose = /^(title|summary)$/.test(agent) ? "aux" : "step"
    this.place = placeOf(live)
    const asked = { ...placeOf(entry.first), lease_for: this.place }
    this.#about = { ...asked, session: session.id, agent, purpose: this.purpose }
    if (this.purpose === "step") {
      this.#ahead = session.ahead
      session.ahead = undefined
    }
    this.#ahead ??= new Question(around.daemon, this.#about)
  }

  /** Sends the request, or gives OpenCode something in its stead. */
  async send(fetch: Fetch, redaction: Redaction, stop?: AbortSignal): Promise<Response> {
    await this.#on("fetch")
    const { daemon } = this.#around
    const word = await latestWord(daemon, this.#ahead, this.#about)
    this.#ahead = undefined
    this.#take(word)
    if (stop?.aborted) {
      await this.#on("stopped")
      return fetch(stop)
    }
    const instead = await this.#insteadOf(word)
    if (instead) {
      await this.#on("diverted")
      return instead
    }
    if (word?.type === "pass") {
      await this.#on("unmanaged")
      return fetch(stop)
    }
    await this.#on("goes")
    this.#lease ??= crypto.randomUUID()
    this.#started = new Date().toISOString()
    return this.#exchange(fetch, redaction, stop, word !== undefined)
  }

  async #exchange(
    fetch: Fetch,
    redaction: Redaction,
    stop: AbortSignal | undefined,
    isHeard: boolean,
  ) {
    const cut = new AbortController() // OpenCode's runtime closes a connection only where its request is aborted
    const signal = stop ? AbortSignal.any([stop, cut.signal]) : cut.signal
    if (isHeard) this.#expectFirstByte(cut)
    try {
      const response = await fetch(signal)
      if (!response.ok) return await this.#refused(response, redaction, cut)
      if (isHeard && isFollowed(response)) return this.#followed(response, redaction, signal, cut)
      // Nobody would act on more, or waits for it.
      setImmediate(() => void this.#on("answered", factsOf(response, redaction)))
      return response
    } catch (error) {
      const better = await this.#on(endOf(signal), { message: causeOf(error, redaction) })
      if (better) return better
      throw error
    }
  }

  #expectFirstByte(cut: AbortController): void {
    const patience = this.#around.daemon.settings.first_byte_ms
    if (!patience) return
    const message = `timed out: nothing in ${patience} ms`
    const onLate = () => cut.abort(new DOMException(message, "TimeoutError"))
    this.#timer = setTimeout(onLate, patience)
  }

  async #refused(refusal: Response, redaction: Redaction, cut: AbortController) {
    const { text, response } = await peek(refusal)
    const better = await this.#on("refused", factsOf(response, redaction, text))
    if (better) cut.abort() // nobody reads the rest
    return better ?? response
  }

  /** The answer as it comes. Where it fails and the daemon knows better, OpenCode tries again. */
  #followed(
    response: Response,
    redaction: Redaction,
    signal: AbortSignal,
    cut: AbortController,
  ): Response {
    const facts = factsOf(response, redaction)
    return follow(response, redaction, {
      byte: () => clearTimeout(this.#timer),
      begun: () => void this.#on("begun", facts),
      failed: async (body) => this.#rest(await this.#on("failed", { ...facts, body })),
      broke: async (error) => {
        const message = causeOf(error, redaction)
        return this.#rest(await this.#on(endOf(signal), { message }))
      },
      ended: () => void this.#on("finished"),
      left: () => void this.#on("left"),
      close: () => cut.abort(),
    })
  }

  /** What OpenCode reads in place of the rest of an answer. */
  async #rest(better: Response | undefined): Promise<Instead> {
    if (!better) return undefined
    return this.toolStarted ? "end" : asError(better)
  }

  /** OpenCode says that it tries again at `next`. What failed was the try before this one if this one
   *  began only then. */
  async onRetry(message: string, next: number): Promise<void> {
    if (this.#began < next) await this.#on("retried", { message })
  }

  onTool(status: string): void {
    if (status !== "pending") this.toolStarted = true
  }

  /** OpenCode says that the turn has failed. */
  async onError(facts: Told): Promise<void> {
    await this.#on("reported", facts)
  }

  /** OpenCode says what the request has used: the answer is complete. */
  async onUsage(usage: Usage): Promise<void> {
    await this.#on("metered", { usage })
  }

  /** The turn has ended. */
  async onIdle(): Promise<void> {
    this.restore()
    await this.#on("idle")
  }

  restore(): void {
    this.#around.switching.restore(this.#session, this.entry, this.live)
  }

  /** Has happen what the table says. Gives what OpenCode gets instead of a failure, if the daemon knows better. */
  async #on(happening: Happening, told: Told = {}): Promise<Response | undefined> {
    const cell = TABLE[this.state][happening]
    if (!cell) return undefined
    const [next, action] = cell
    const hasPassedBy = this.state === "announced" && happening === "metered"
    if (hasPassedBy && this.isTagged) onPassedBy(this.place.provider)
    this.state = next
    if (next === "ended") clearTimeout(this.#timer)
    if (this.#ahead && next === "ended") await this.#takeAhead() // it has passed fetch by
    return this.#do[action](told)
  }

  readonly #do: Record<Action, (told: Told) => Promise<Response | undefined>> = {
    nothing: async () => undefined,
    giveBack: async () => {
      if (this.#lease) this.#around.daemon.giveBack(this.#lease, this.place)
      this.#lease = undefined
      return undefined
    },
    reportAccepted: (told) => this.#report("accepted", told),
    reportOk: (told) => this.#report("ok", told),
    reportError: (told) => this.#report("error", told),
    reportCancelled: (told) => this.#report("cancelled", told),
    reportUsage: async ({ usage }) => {
      if (this.#lease) await this.#around.daemon.ask("usage", { ...this.#facts(), usage })
      return undefined
    },
  }

  async #report(outcome: string, told: Told): Promise<Response | undefined> {
    const fields = { ...this.#facts(), started_at: this.#started, outcome, ...told }
    const recorded = await this.#around.daemon.ask("report", fields)
    return recorded?.type === "recorded" ? this.#insteadOf(recorded.next) : undefined
  }

  #facts() {
    return { ...this.place, session: this.#session.id, lease: this.#lease ?? "" }
  }

  async #takeAhead(): Promise<void> {
    const ahead = this.#ahead
    this.#ahead = undefined
    this.#take(await ahead?.answer)
    this.#lease ??= crypto.randomUUID()
  }

  /** Keeps the lease of this request. One for elsewhere is given back: that request has a lease of its own. */
  #take(word: Decision | undefined): void {
    this.#lease = undefined
    if (word?.type !== "use" || !word.lease) return
    if (isSame(word, this.place)) this.#lease = word.lease
    else this.#around.daemon.giveBack(word.lease, word)
  }

  /** What OpenCode gets instead of the request or of its failure; undefined where that is as good as any. */
  async #insteadOf(word: Decision | undefined): Promise<Response | undefined> {
    if (word?.type === "use" && !isSame(word, this.place)) return this.#elsewhere(word)
    if (word?.type === "wait") return this.#later(word)
    return undefined
  }

  async #elsewhere(word: Use): Promise<Response | undefined> {
    if (await this.#move(word)) return standIn(429, word.message)
    const isInVain = this.purpose === "aux" && CANNOT_SERVE.includes(word.reason)
    return isInVain ? standIn(TURN_ENDS, word.message) : undefined
  }

  /** OpenCode waits, or the turn ends and names the times. */
  async #later(word: Wait): Promise<Response> {
    const { retry_after_ms: ms, retry_at: at } = word
    if (ms === null || ms > this.#around.daemon.settings.wait_ms)
      return standIn(TURN_ENDS, word.brief)
    if (ms > WORTH_A_WORD) this.#around.tell("wait", word.brief, word.message)
    const firstBack = word.candidates.find(({ until }) => until === at)
    if (firstBack && !isSame(firstBack, this.place)) await this.#move(firstBack)
    return standIn(429, word.message, ms)
  }

  /** Makes OpenCode's next try of this step go elsewhere, without what others have signed. */
  async #move(to: Target): Promise<boolean> {
    const { switching } = this.#around
    if (this.purpose === "aux" || !switching.follows) return false
    const model = await switching.find(to).catch(() => undefined)
    if (!model || this.#session.attempt !== this) return false // or the turn has ended meanwhile
    switching.move(this.#session, this.entry, this.live, model)
    dropForeignSignatures(this.#session.history, to)
    return true
  }
}

const endOf = (signal: AbortSignal): Happening => (isPersonsStop(signal) ? "stopped" : "broke")

// One request of OpenCode 1.x, from its announcement to its last report: see table.ts for its life.

import type { Model } from "@opencode-ai/sdk"
import type { Facts } from "../answers/errors.ts"
import type { Connection } from "../daemon/connection.ts"
import { isSame, type Decision, type Target } from "../daemon/messages.ts"
import { divert } from "./diversion.ts"
import { latestWord, Question, takeAhead, type About } from "./question.ts"
import type { Session } from "./session.ts"
import { placeOf, type Entry, type Switching } from "./switching.ts"
import { TABLE, type Action, type Happening, type State } from "./table.ts"
import { onPassedBy } from "./tagged-fetch.ts"

/** What an attempt needs of its project. */
export type Surroundings = {
  readonly daemon: Connection
  readonly switching: Switching
  readonly tell: (fact: string, word: string, message: string) => void
}

type Usage = Record<string, number>
export type Told = { message?: string; usage?: Usage } & Partial<Facts>

export class Attempt {
  /** Leads from the announcement to fetch. */
  readonly id = crypto.randomUUID()
  readonly around: Surroundings
  readonly session: Session
  readonly live: Model
  readonly entry: Entry
  /** Where the request goes if nobody leads it elsewhere. */
  readonly place: Target
  /** A title or summary (`aux`) cannot be moved: OpenCode starts none anew. */
  readonly purpose: "step" | "aux"
  /** A tool that the answer called is running: the step must not be asked for again. */
  toolStarted = false
  /** The way of the request to fetch is marked. */
  isTagged = false
  state: State = "announced"

  readonly #about: About
  readonly #began = Date.now()
  #ahead: Question | undefined
  #lease: string | undefined // the daemon's or one of our own: what has a name counts once
  #started: string | undefined

  constructor(around: Surroundings, session: Session, agent: string, live: Model, entry: Entry) {
    this.around = around
    this.session = session
    this.live = live
    this.entry = entry
    this.place = placeOf(live)
    this.purpose = /^(title|summary)$/.test(agent) ? "aux" : "step"
    const about = { ...placeOf(entry.first), lease_for: this.place, session: session.id, agent }
    this.#about = { ...about, purpose: this.purpose }
    if (this.purpose === "step") this.#ahead = takeAhead(session, about)
    this.#ahead ??= new Question(around.daemon, this.#about)
  }

  /** The daemon's word on this request, as of now. */
  async word(): Promise<Decision | undefined> {
    const ahead = this.#ahead
    this.#ahead = undefined
    const word = await latestWord(this.around.daemon, ahead, this.#about)
    this.#take(word)
    return word
  }

  /** OpenCode says that it tries again at `next`. What failed was the try before this one if this one
   *  began only then. */
  async onRetry(message: string, next: number): Promise<void> {
    if (this.#began < next) await this.on("retried", { message })
  }

  /** Whether it would change anything if that happened now. */
  expects(happening: Happening): boolean {
    return TABLE[this.state][happening] !== undefined
  }

  onTool(status: string): void {
    if (status !== "pending") this.toolStarted = true
  }

  /** The turn has ended. */
  async onIdle(): Promise<void> {
    this.restore()
    await this.on("idle")
  }

  restore(): void {
    this.around.switching.restore(this.session, this.entry, this.live)
  }

  /** Has happen what the table says. Gives what OpenCode gets instead of a failure, if the daemon knows better. */
  async on(happening: Happening, told: Told = {}): Promise<Response | undefined> {
    const cell = TABLE[this.state][happening]
    if (!cell) return undefined
    const [next, action] = cell
    const hasPassedBy = this.state === "announced" && happening === "metered"
    if (hasPassedBy && this.isTagged) onPassedBy(this.place.provider)
    this.state = next
    if (this.#ahead && next === "ended") await this.word() // fetch has not waited for its lease
    return this.#do(action, told)
  }

  async #do(action: Action, told: Told): Promise<Response | undefined> {
    switch (action) {
      case "begin":
        this.#lease ??= crypto.randomUUID()
        this.#started = new Date().toISOString()
        return undefined
      case "giveBack":
        if (this.#lease) this.around.daemon.giveBack(this.#lease, this.place)
        this.#lease = undefined
        return undefined
      case "reportAccepted":
        return this.#report("accepted", told)
      case "reportOk":
        return this.#report("ok", told)
      case "reportError":
        return this.#report("error", told)
      case "reportCancelled":
        return this.#report("cancelled", told)
      case "reportUsage":
        if (this.#lease) await this.around.daemon.ask("usage", { ...this.#facts(), ...told })
        return undefined
      case "nothing":
        return undefined
    }
  }

  async #report(outcome: string, told: Told): Promise<Response | undefined> {
    const fields = { ...this.#facts(), started_at: this.#started, outcome, ...told }
    const recorded = await this.around.daemon.ask("report", fields)
    return recorded?.type === "recorded" ? divert(this, recorded.next) : undefined
  }

  #facts() {
    this.#lease ??= crypto.randomUUID()
    return { ...this.place, session: this.session.id, lease: this.#lease }
  }

  /** Keeps the lease of this request. One for elsewhere is given back: that request gets a lease of its own. */
  #take(word: Decision | undefined): void {
    this.#lease = undefined
    if (word?.type !== "use" || !word.lease) return
    if (isSame(word, this.place)) this.#lease = word.lease
    else this.around.daemon.giveBack(word.lease, word)
  }
}

// What the shim does in one project of OpenCode 2.x.

import { Connection } from "../daemon/connection.ts"
import { decisionIn, type Notice } from "../daemon/messages.ts"
import { notify } from "../notices.ts"
import { Attempt } from "./attempt.ts"
import { placeOf, type Context, type Host, type HostEvent } from "./host.ts"
import type { HttpRequest, HttpResponse, Prompt, Retry } from "./host.ts"
import { Requests } from "./requests.ts"
import { Sessions, type Session } from "./session.ts"
import { StatusQuestions } from "./status-question.ts"

/** `opencode serve` by hand has a person who reads stderr; nobody reads that of a background service. */
const IS_READ =
  process.argv.includes("serve") && !process.argv.some((word) => /^--(service|stdio)$/.test(word))

export class Project {
  readonly #daemon: Connection
  readonly #sessions: Sessions
  readonly #questions: StatusQuestions
  readonly #requests: Requests

  constructor(host: Host) {
    const directory = host.location?.directory ?? process.cwd()
    this.#daemon = new Connection(directory, (notice) => this.#onNotice(notice))
    this.#sessions = new Sessions(host)
    this.#questions = new StatusQuestions(this.#daemon)
    this.#requests = new Requests(host, this.#daemon, this.#sessions)
    void this.#daemon.ask("ping") // so that the first request finds the connection made
  }

  /** A person's turn starts, or a sub-agent's: on whom? Without a daemon where it was asked for. */
  async onPrompt(moment: Prompt): Promise<void> {
    if (this.#questions.begins(moment)) return
    const session = await this.#sessions.begin(moment.sessionID)
    if (!session) return
    const home = placeOf(session.home)
    const about = { ...home, session: session.id, purpose: "turn" }
    const word = decisionIn(await this.#daemon.ask("acquire", about))
    if (word?.type === "wait") return // its requests will be held back
    await this.#sessions.move(session, word?.type === "use" ? word : home)
  }

  /** A model is about to get these messages. */
  onContext(moment: Context): void {
    this.#questions.takeOut(moment)
  }

  async onRequest(moment: HttpRequest): Promise<void> {
    if (this.#questions.isAsked(moment.sessionID)) this.#questions.hold(moment)
    else await this.#requests.onRequest(moment)
  }

  async onResponse(moment: HttpResponse): Promise<void> {
    if (this.#questions.isAsked(moment.sessionID)) await this.#questions.answer(moment)
    else await this.#requests.onResponse(moment)
  }

  async onRetry(moment: Retry): Promise<void> {
    if (this.#questions.isAsked(moment.sessionID)) moment.decision = { retry: false }
    else await this.#requests.onRetry(moment)
  }

  /** OpenCode tells what happens in its sessions, those of other projects included. */
  async onEvent({ type, data }: HostEvent): Promise<void> {
    const session = this.#sessions.find(data.sessionID)
    if (!session || this.#questions.isAsked(session.id)) return
    switch (type) {
      case "session.step.ended": {
        const { cache, ...tokens } = data.tokens
        const usage = { ...tokens, cache_read: cache.read, cache_write: cache.write }
        return this.#answeredIn(session).meter({ ...usage, cost: data.cost })
      }
      case "session.execution.succeeded":
      case "session.execution.failed":
      case "session.execution.interrupted":
        this.#requests.onEnd(session)
    }
  }

  /** The attempt that an ended step belongs to; a new one where its request has passed the hooks by. */
  #answeredIn(session: Session): Attempt {
    const { id, now, answered } = session
    session.answered = undefined
    return answered ?? new Attempt(this.#daemon, { session: id, place: now })
  }

  #onNotice({ event, model, session, to, message }: Notice): void {
    if (session && !this.#sessions.find(session)) return
    const { settings } = this.#daemon
    const show = () => {
      if (IS_READ && settings.stderr) process.stderr.write(`rlmd: ${message}\n`)
    }
    notify(`${event} ${model}`, to ?? message, message, show, settings)
  }

  close(): void {
    this.#daemon.close()
  }
}

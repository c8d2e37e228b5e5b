// What the shim does in one OpenCode instance, which is one project directory.

import type { Config, PluginInput } from "@opencode-ai/plugin"
import type { Event, Model, Part, UserMessage } from "@opencode-ai/sdk"
import { Connection } from "../daemon/connection.ts"
import { isSame, type Notice } from "../daemon/messages.ts"
import { notify } from "../notices.ts"
import { COMMAND } from "../status.ts"
import { isShown } from "../tui.ts"
import { Attempt, type Surroundings } from "./attempt.ts"
import { onEvent } from "./events.ts"
import { dropForeignSignatures, type History } from "./history.ts"
import { modelsOf, nameOf, storeUnder } from "./internals.ts"
import { Question } from "./question.ts"
import { Sessions } from "./session.ts"
import { showStatus } from "./status-command.ts"
import { placeOf, Switching } from "./switching.ts"
import { mayBeTagged, tag } from "./tagged-fetch.ts"

const SHOWN = 6000 // ms of a notice on the screen

/** The shim in one OpenCode instance, which is one project directory. */
export class Project {
  readonly #client: PluginInput["client"]
  readonly #daemon: Connection
  readonly #sessions = new Sessions()
  readonly #around: Surroundings

  constructor({ client, directory }: PluginInput) {
    this.#client = client
    this.#daemon = new Connection(directory, (notice) => this.#onNotice(notice))
    const tell = (fact: string, word: string, message: string) => this.#tell(fact, word, message)
    this.#around = { daemon: this.#daemon, switching: new Switching(client, tell), tell }
  }

  #tell(fact: string, word: string, message: string): void {
    const toast = { title: "rlmd", message, variant: "warning" as const, duration: SHOWN }
    const show = () => void this.#client.tui.showToast({ body: toast }).catch(() => {})
    notify(fact, word, message, show, this.#daemon.settings)
  }

  #onNotice({ event, model, session, to, message }: Notice): void {
    const isOurs = !session || this.#sessions.find(session)
    if (isOurs) this.#tell(`${event} ${model}`, to ?? message, message)
  }

  /** OpenCode is ready. */
  onConfig(config: Config): void {
    void this.#daemon.ask("ping") // so that the first request finds the connection made
    if (isShown()) return
    config.command ??= {}
    config.command[COMMAND] ??= {
      template: "Say: rlmd is not active.",
      description: "All providers' limits",
    }
  }

  /** A person's turn starts: on whom? */
  async onTurn(
    session: string,
    agent: unknown,
    message: UserMessage,
    parts: Part[],
  ): Promise<void> {
    if (parts.every((part) => part.type === "text" && part.ignored)) return // no model gets this
    const words = parts.map((part) => (part.type === "text" ? part.text : "")).join("")
    if (words.trim() === `/${COMMAND}`) await this.onCommand(COMMAND, session) // typed with a blank behind it
    this.#sessions.use(session).attempt?.restore()
    const asked = { provider: message.model.providerID, model: message.model.modelID }
    const about = { ...asked, session, agent: nameOf(agent), purpose: "turn" }
    const word = await this.#daemon.ask("acquire", about)
    if (word?.type !== "use" || isSame(word, asked)) return
    if (!(await this.#around.switching.find(word))) return
    // A new object: the old one may be an agent's for good.
    message.model = { ...message.model, providerID: word.provider, modelID: word.model }
  }

  /** A step is near: the daemon answers while OpenCode makes it ready. */
  onStep(history: History): void {
    dropForeignSignatures(history)
    const user = history.findLast(({ info }) => info.role === "user")?.info as
      UserMessage | undefined
    if (!user) return
    const session = this.#sessions.use(user.sessionID)
    const { providerID: provider, modelID: model } = user.model
    const about = { provider, model, session: session.id, agent: nameOf(user.agent) }
    void session.ahead?.drop() // that step was not made
    session.ahead = new Question(this.#daemon, { ...about, purpose: "step" })
    session.history = history
  }

  /** A request is being made. */
  onRequest(
    id: string,
    agent: unknown,
    live: Model,
    provider: unknown,
    headers: Record<string, string>,
  ): void {
    const { switching } = this.#around
    const session = this.#sessions.use(id)
    const entry = switching.entryOf(live, modelsOf(provider))
    const attempt = new Attempt(this.#around, session, nameOf(agent), live, entry)
    if (attempt.purpose === "step") {
      switching.watch(session, entry, live)
      session.moved = undefined
      storeUnder(session.draft, placeOf(live))
      session.attempt = attempt
    } else session.aside.add(attempt)
    if (mayBeTagged(live, provider, headers)) tag(attempt, headers)
  }

  async onCommand(name: string, session: string): Promise<void> {
    if (name === COMMAND) await showStatus(this.#client, this.#daemon, session)
  }

  /** OpenCode tells what happens in it. */
  async onEvent(event: Event): Promise<void> {
    await onEvent(this.#sessions, event)
  }

  close(): void {
    this.#daemon.close()
  }
}

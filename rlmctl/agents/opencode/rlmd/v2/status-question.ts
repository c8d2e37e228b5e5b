// `/rate_limit_status` where no screen takes it: `opencode run` and other clients send it as a prompt. The
// daemon answers it in the model's place, and no model ever gets the question or the answer.

import type { Connection } from "../daemon/connection.ts"
import { remember } from "../remember.ts"
import { COMMAND, textOfStatus } from "../status.ts"
import type { Context, HttpRequest, HttpResponse, Prompt } from "./host.ts"
import { answerOf, nowhere, refusal } from "./stand-in.ts"

const TITLE = "Rate limits"

export class StatusQuestions {
  readonly #daemon: Connection
  readonly #asking = new Map<string, boolean>() // by session
  readonly #addresses = new WeakMap<Request, string>() // of the requests that were held back

  constructor(daemon: Connection) {
    this.#daemon = daemon
  }

  /** Whether this turn asks for the status. */
  begins({ sessionID, prompt }: Prompt): boolean {
    const isQuestion = isCommand(prompt.text)
    if (isQuestion) remember(this.#asking, sessionID, true)
    else this.#asking.delete(sessionID)
    return isQuestion
  }

  isAsked(session: string): boolean {
    return this.#asking.has(session)
  }

  hold(moment: HttpRequest): void {
    const { url } = moment.request
    moment.request = nowhere()
    this.#addresses.set(moment.request, url)
  }

  async answer(moment: HttpResponse): Promise<void> {
    const url = this.#addresses.get(moment.request)
    const text = moment.kind === "title" ? TITLE : textOfStatus(await this.#daemon.ask("status"))
    moment.response = (url && answerOf(url, text)) || refusal(text)
  }

  /** Takes earlier questions and their answers out of what a model gets. */
  takeOut(moment: Context): void {
    const { messages } = moment
    const isOurs = (at: number) => {
      const message = messages[at]
      return message?.role === "user" && isCommand(textOf(message.content))
    }
    const kept = messages.filter(({ role }, at) => {
      return !isOurs(at) && !(role === "assistant" && isOurs(at - 1))
    })
    const last = messages.at(-1)
    if (kept.length < messages.length && last && kept.includes(last)) moment.messages = kept
  }
}

/** `opencode run` puts quotes around some words. */
const isCommand = (text: string) => text.replace(/^"|"$/g, "").trim() === `/${COMMAND}`

function textOf(content: unknown): string {
  if (typeof content === "string") return content
  if (!Array.isArray(content)) return ""
  return content.map((part: { text?: unknown }) => String(part.text ?? "")).join("")
}

// The summary of a long session. OpenCode 2.x tries it again with the very request that was refused, at the
// same provider. So where that is limited another one writes the summary, and OpenCode gets it as the answer.

import type { Connection } from "../daemon/connection.ts"
import { decisionIn, isSame, type Use, type Wait } from "../daemon/messages.ts"
import { note } from "../debug.ts"
import type { Attempt } from "./attempt.ts"
import { placeOf, type Host } from "./host.ts"
import type { Session, Sessions } from "./session.ts"
import { answerOf } from "./stand-in.ts"

const TRIES = 4 // providers that are asked for one summary

/** The summary as an answer to the attempt; undefined where nobody gives one. */
export async function summaryElsewhere(
  host: Host,
  daemon: Connection,
  sessions: Sessions,
  session: Session,
  attempt: Attempt,
  word: Use | Wait | undefined,
): Promise<Response | undefined> {
  const { sent } = attempt
  const prompt = sent && lastTextOf(sent.body)
  if (!sent || !prompt) return undefined
  let next = word
  for (let tries = 0; tries < TRIES && next?.type === "use"; tries++) {
    const { provider, model } = next
    if (isSame(next, attempt.place) || !(await sessions.move(session, next))) return undefined
    try {
      const { text } = await host.session.generate({ sessionID: session.id, prompt })
      return answerOf(sent.url, text)
    } catch (error) {
      note("no summary", error)
    }
    const about = { ...placeOf(session.home), session: session.id, purpose: "aux", dry_run: true }
    const decision = decisionIn(await daemon.ask("acquire", about))
    next = decision?.type === "use" && !isSame(decision, { provider, model }) ? decision : undefined
  }
  return undefined
}

/** The newest message of a request, on whatever wire. */
function lastTextOf(body: ArrayBuffer): string {
  const { messages, input, contents } = JSON.parse(new TextDecoder().decode(body)) as Body
  const last = (messages ?? input ?? contents ?? []).at(-1)
  const content = last?.content ?? last?.parts ?? ""
  return typeof content === "string" ? content : content.map(({ text }) => text ?? "").join("")
}

type Parts = { text?: string }[]
type Message = { content?: string | Parts; parts?: Parts }
type Body = { messages?: Message[]; input?: Message[]; contents?: Message[] }

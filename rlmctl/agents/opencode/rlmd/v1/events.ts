// What OpenCode tells of its sessions. A failure is news only where a request has passed fetch by, or where
// only OpenCode sees an error in the answer.

import type { Event } from "@opencode-ai/sdk"
import { factsOf, wordsOf } from "../answers/errors.ts"
import { Redaction, UNSEEN } from "../answers/redaction.ts"
import type { Session, Sessions } from "./session.ts"
import { forget } from "./tagged-fetch.ts"

export async function onEvent(sessions: Sessions, event: Event): Promise<void> {
  switch (event.type) {
    case "message.updated": {
      const { info } = event.properties
      if (info.role !== "assistant") return
      const session = sessions.find(info.sessionID)
      if (session) session.draft = info.time.completed ? undefined : info
      return
    }
    case "message.part.updated": {
      const { part } = event.properties
      const attempt = sessions.find(part.sessionID)?.attempt
      if (part.type === "tool") attempt?.onTool(part.state.status)
      if (part.type !== "step-finish") return
      const { cache, ...tokens } = part.tokens
      const usage = { ...tokens, cache_read: cache.read, cache_write: cache.write, cost: part.cost }
      await attempt?.on("metered", { usage })
      return
    }
    case "session.status": {
      const { sessionID, status } = event.properties
      const session = sessions.find(sessionID)
      if (status.type !== "retry" || !session?.attempt?.expects("retried")) return
      return session.attempt.onRetry(wordsOf(status.message, sentBy(session)), status.next)
    }
    case "session.error": {
      const { sessionID = "", error } = event.properties
      const session = sessions.find(sessionID)
      if (error?.name !== "APIError" || !session?.attempt?.expects("reported")) return
      const { message, statusCode: status, responseHeaders, responseBody } = error.data
      const redaction = sentBy(session)
      const answer = { status, headers: new Headers(responseHeaders) }
      const facts = factsOf(answer, redaction, responseBody)
      await session.attempt.on("reported", { ...facts, message: wordsOf(message, redaction) })
      return
    }
    case "session.idle":
      return onIdle(sessions, event.properties.sessionID)
  }
}

/** Of a request that has passed fetch by only the messages are known, if they are. */
function sentBy({ history }: Session): Redaction {
  return new Redaction({ body: history.length > 0 ? JSON.stringify(history) : UNSEEN })
}

async function onIdle(sessions: Sessions, id: string): Promise<void> {
  const session = sessions.find(id)
  if (!session) return
  sessions.forget(id)
  void session.ahead?.drop()
  const attempts = session.attempt ? [session.attempt, ...session.aside] : [...session.aside]
  session.attempt = undefined // so nothing of the turn is moved any more
  for (const attempt of attempts) {
    forget(attempt)
    void attempt.onIdle()
  }
}

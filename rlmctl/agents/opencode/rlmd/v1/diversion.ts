// What OpenCode gets instead of a request or of its failure, where the daemon knows better.

import { isSame, type Decision, type Target, type Use, type Wait } from "../daemon/messages.ts"
import { note } from "../debug.ts"
import type { Attempt } from "./attempt.ts"
import { dropForeignSignatures } from "./history.ts"
import { standIn, TURN_ENDS } from "./stand-in.ts"

const CANNOT_SERVE = ["cooldown", "limit", "disabled", "fallback_model"] // reasons to ask another one
const WORTH_A_WORD = 3000 // ms of waiting

/** A response in the provider's stead; undefined where what there is is as good as any. */
export async function divert(attempt: Attempt, word?: Decision): Promise<Response | undefined> {
  try {
    if (word?.type === "use" && !isSame(word, attempt.place)) return await elsewhere(attempt, word)
    if (word?.type === "wait") return await later(attempt, word)
  } catch (error) {
    note("a request could not be led elsewhere", error)
  }
  return undefined
}

async function elsewhere(attempt: Attempt, word: Use): Promise<Response | undefined> {
  if (await move(attempt, word)) return standIn(429, word.message)
  const isInVain = attempt.purpose === "aux" && CANNOT_SERVE.includes(word.reason)
  return isInVain ? standIn(TURN_ENDS, word.message) : undefined
}

/** OpenCode waits, or the turn ends and names the times. */
async function later(attempt: Attempt, word: Wait): Promise<Response> {
  const { daemon, tell } = attempt.around
  const { retry_after_ms: ms, retry_at: at } = word
  if (ms === null || ms > daemon.settings.wait_ms) return standIn(TURN_ENDS, word.brief)
  if (ms > WORTH_A_WORD) tell("wait", word.brief, word.message)
  const firstBack = word.candidates.find(({ until }) => until === at)
  if (firstBack && !isSame(firstBack, attempt.place)) await move(attempt, firstBack)
  return standIn(429, word.message, ms)
}

/** Makes OpenCode's next try of this step go elsewhere, without what others have signed. */
async function move(attempt: Attempt, to: Target): Promise<boolean> {
  const { around, session, entry, live } = attempt
  if (attempt.purpose === "aux" || !around.switching.follows) return false
  const model = await around.switching.find(to).catch(() => undefined)
  if (!model || session.attempt !== attempt) return false // or the turn has ended meanwhile
  around.switching.move(session, entry, live, model)
  dropForeignSignatures(session.history, to)
  return true
}

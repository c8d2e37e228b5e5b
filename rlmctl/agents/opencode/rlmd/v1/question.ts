// What the daemon says of one request. OpenCode goes on while the answer is on its way.

import type { Connection } from "../daemon/connection.ts"
import { decisionIn, isSame, type Decision, type Target } from "../daemon/messages.ts"
import type { Session } from "./session.ts"

const FRESH = 40 // ms for which an answer holds: other requests find out more meanwhile

export type About = Target & {
  session: string
  agent: string
  purpose: "step" | "aux"
  lease_for?: Target
}

/** One question, asked at once. */
export class Question {
  readonly answer: Promise<Decision | undefined>
  /** The model that was asked for. */
  readonly asked: Target
  readonly #daemon: Connection
  #arrived: number | undefined

  constructor(daemon: Connection, about: About) {
    this.asked = { provider: about.provider, model: about.model }
    this.#daemon = daemon
    this.answer = daemon.ask("acquire", about).then((message) => {
      this.#arrived = Date.now()
      return decisionIn(message)
    })
  }

  /** Whether others may know more by now. An answer that is still to come is as new as can be. */
  get isOld(): boolean {
    return this.#arrived !== undefined && Date.now() - this.#arrived > FRESH
  }

  /** Gives back what was reserved, whenever the answer comes. */
  async drop(): Promise<void> {
    const decision = await this.answer
    if (decision?.type === "use" && decision.lease) this.#daemon.giveBack(decision.lease, decision)
  }
}

/** What was asked ahead for a step, if it was for this model: a compaction may have a model of its own. */
export function takeAhead(session: Session, asked: Target): Question | undefined {
  const { ahead } = session
  session.ahead = undefined
  if (!ahead || isSame(ahead.asked, asked)) return ahead
  void ahead.drop()
  return undefined
}

/** The daemon's word when a request is sent: the answer to what was asked ahead or, where that is old, to a
 *  second question. What the first one has reserved is given back before: it may be all that is left.
 *  Each question has one deadline, and a question that is old was not waited for: so a request is held
 *  no longer than one deadline. */
export async function latestWord(
  daemon: Connection,
  ahead: Question | undefined,
  about: About,
): Promise<Decision | undefined> {
  if (ahead && !ahead.isOld) return ahead.answer
  await ahead?.drop()
  return new Question(daemon, about).answer
}

// The requests of one project: before each the daemon is asked, and each failure is led on. What the daemon
// wants elsewhere, or later, is held back: OpenCode gets a refusal, and asks `onRetry` what to do.

import type { Connection } from "../daemon/connection.ts"
import { decisionIn, isSame, type Decision, type Target, type Wait } from "../daemon/messages.ts"
import { Attempt, type Sent } from "./attempt.ts"
import { summaryElsewhere } from "./compaction.ts"
import { placeOf, type Host, type HttpRequest, type HttpResponse, type Retry } from "./host.ts"
import { isOn, type Session, type Sessions } from "./session.ts"
import { nowhere, refusal } from "./stand-in.ts"

const CANNOT_SERVE = ["cooldown", "limit", "disabled", "fallback_model"] // reasons to ask another one
const TITLE = 60_000 // ms after its turn for which a title is waited for

export class Requests {
  readonly #host: Host
  readonly #daemon: Connection
  readonly #sessions: Sessions
  readonly #attempts = new WeakMap<Request, Attempt>() // by what OpenCode sends

  constructor(host: Host, daemon: Connection, sessions: Sessions) {
    this.#host = host
    this.#daemon = daemon
    this.#sessions = sessions
  }

  /** A request is about to be sent. */
  async onRequest(moment: HttpRequest): Promise<void> {
    const { sessionID: id, kind, agent, model, request } = moment
    const place = placeOf(model)
    const isUnknown = kind === "compaction" && !this.#sessions.find(id)
    if (isUnknown) await this.#sessions.begin(id) // the first thing that is asked for in this process
    const session = this.#isAside(moment) ? undefined : this.#sessions.seen(id, model)
    const home = placeOf(session?.home ?? model)
    const purpose = session ? "step" : "aux"
    const about = { ...home, lease_for: place, session: id, agent, purpose }
    const [message, sent] = await Promise.all([this.#daemon.ask("acquire", about), sentBy(request)])
    const word = decisionIn(message)
    const attempt = new Attempt(this.#daemon, { session: id, place, kind, sent }, word)
    const leads = session ? await this.#leadsAway(session, attempt, word) : isInVain(attempt, word)
    if (leads && word && word.type !== "pass") {
      attempt.hold(word)
      moment.request = nowhere()
    }
    this.#attempts.set(moment.request, attempt)
    if (session) this.#begin(session, attempt)
    else this.#sessions.find(id)?.aside.add(attempt)
  }

  /** Whether this is nobody's turn: counted, but it moves no session. A compaction may have a model of its own. */
  #isAside({ sessionID, kind, model }: HttpRequest): boolean {
    const known = this.#sessions.find(sessionID)
    const isOwn = !known || !isOn(known, placeOf(model))
    return kind === "title" || kind === "generate" || (kind === "compaction" && isOwn)
  }

  #begin(session: Session, attempt: Attempt): void {
    session.attempt?.giveUp()
    session.attempt = attempt
    attempt.onBegun = () => {
      session.hops = 0
      session.answered = attempt
    }
  }

  async #leadsAway(session: Session, { place }: Attempt, word: Decision | undefined) {
    if (word?.type === "wait") return true
    return word?.type === "use" && !isSame(word, place) && this.#hop(session, word)
  }

  async #hop(session: Session, to: Target): Promise<boolean> {
    return this.#sessions.mayHop(session) && (await this.#sessions.move(session, to))
  }

  /** An answer has begun. */
  async onResponse(moment: HttpResponse): Promise<void> {
    const session = this.#sessions.find(moment.sessionID)
    const isStep = moment.kind === "primary" || moment.kind === "compaction"
    const latest = isStep ? session?.attempt : undefined // another plugin may have put its own request in place
    const attempt = this.#attempts.get(moment.request) ?? latest
    if (!attempt) return
    const { held } = attempt
    moment.response = held ? refusal(held.message) : await attempt.read(moment.response)
    const { ok: isFine, status } = moment.response
    if (!attempt.isCompaction || isFine || session?.attempt !== attempt) return
    const word = await attempt.next({ status })
    const summary = await summaryElsewhere(
      this.#host,
      this.#daemon,
      this.#sessions,
      session,
      attempt,
      word,
    )
    if (summary) moment.response = summary
  }

  /** A step or a compaction has failed. OpenCode never tries a title again. */
  async onRetry(moment: Retry): Promise<void> {
    const { sessionID: id, model, error } = moment
    const session = this.#sessions.find(id) ?? this.#sessions.seen(id, model)
    const unseen = () => new Attempt(this.#daemon, { session: id, place: placeOf(model) })
    const attempt = session.attempt ?? unseen()
    session.attempt = undefined // the next one is another, whether its request is seen or not
    const word = await attempt.next(error)
    if (word && attempt.isCompaction)
      moment.decision = { retry: false } // it would be the same request
    else if (word?.type === "wait") await this.#wait(moment, session, word)
    else if (word && !isSame(word, attempt.place)) {
      const hasMoved = attempt.held !== undefined || (await this.#hop(session, word))
      if (hasMoved) moment.decision = { retry: true, delay: 0 }
    }
  }

  /** All are limited: OpenCode waits if that is not long, and says until when. */
  async #wait(moment: Retry, session: Session, word: Wait): Promise<void> {
    const { retry_at: at, retry_after_ms: ms, message, candidates } = word
    const isNear = ms !== null && ms <= this.#daemon.settings.wait_ms
    moment.decision = isNear ? { retry: true, delay: ms } : { retry: false }
    moment.error.message = message // on the screen, and what `opencode run` prints in the end
    const firstBack = candidates.find(({ until }) => until === at)
    if (isNear && firstBack) await this.#sessions.move(session, firstBack)
  }

  /** A turn has ended: a step without an answer gets none any more. */
  onEnd(session: Session): void {
    for (const attempt of session.aside) setTimeout(() => attempt.giveUp(), TITLE).unref()
    session.aside.clear()
    session.attempt?.giveUp()
    session.attempt = session.answered = undefined
  }
}

/** A title goes nowhere else: it is let go where its provider may yet serve. */
function isInVain({ place }: Attempt, word: Decision | undefined): boolean {
  if (word?.type === "wait") return true
  return word?.type === "use" && !isSame(word, place) && CANNOT_SERVE.includes(word.reason)
}

/** What an error may repeat, and what another provider would need to do the same. */
async function sentBy(request: Request): Promise<Sent> {
  const { url, headers } = request
  return { url, headers, body: await request.clone().arrayBuffer() }
}

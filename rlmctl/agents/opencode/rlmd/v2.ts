// OpenCode 2.x. It has hooks for what 1.x has to be shown in fetch, and can switch a session's model
// by itself, for good: what was asked for is remembered, and switched back to when it is free again.
// Its host is not published; `Host` is what this relies on. Nothing here may throw into OpenCode.

import { Connection } from "./daemon/connection.ts"
import { isSame as same, type Notice, type Target, type Use, type Wait } from "./daemon/messages.ts"
import { remember } from "./remember.ts"
import { ABSENT } from "./status.ts"
import { peek } from "./answers/body.ts"
import { causeOf } from "./answers/causes.ts"
import { factsOf } from "./answers/errors.ts"
import { follow, isFollowed } from "./answers/follow.ts"
import { Redaction, UNSEEN } from "./answers/redaction.ts"

type Model = { providerID: string; id: string }
type Failure = { type?: string; message?: string; status?: number; response?: { headers?: any } }
type Decision = { retry: false } | { retry: true; delay: number }
type Moment = {
  sessionID: string
  agent?: string
  kind?: string // of a request: primary, compaction, title, generate
  model?: Model
  request?: Request
  response?: Response
  error?: Failure
  decision?: Decision
}
type Command = { name: string; description: string; execute(call: Moment): Promise<void> }
export type Host = {
  session: {
    hook(name: string, act: (moment: Moment) => Promise<void>): unknown
    switchModel(to: { sessionID: string; model: Model }): Promise<unknown>
    synthetic(message: { sessionID: string; text: string; resume: false }): Promise<unknown>
  }
  command: { transform(change: (commands: { add(command: Command): void }) => void): unknown }
}

const NAME = "rate_limit_status"
const ASIDE = /^(title|generate|summary)$/ // nobody's turn: counted, but it moves no session
const SLOW = 2000 // ms: longer than that no switch of OpenCode's is waited for
const HOPS = 8 // switches of one step; the daemon names none twice, but OpenCode sets no end

type Session = {
  home: Target // what was asked for
  now: Target
  before?: Target // where it was until it was switched: a request may still be on its way there
  hops: number
  told?: string
}
type Attempt = Target & {
  session: string
  lease: string
  begun: string
  redaction?: Promise<Redaction> // what its error repeats of it is not told
  ended: boolean // its last report is made, or none is due
  next?: Promise<Use | Wait | undefined> // what the daemon said to its failure
}

const placeOf = (model?: Model): Target | undefined =>
  model?.providerID && model.id ? { provider: model.providerID, model: model.id } : undefined

const nameOf = (error: unknown) => (error instanceof Error ? error.name : undefined)
/** Of a copy of the request; of one that was not seen no sentence of an error is told. */
async function redactionOf(copy?: Request): Promise<Redaction> {
  const body = await copy?.text().catch(() => UNSEEN)
  return new Redaction({ headers: copy?.headers, url: copy?.url, body: copy ? body : UNSEEN })
}

const whatOf = ({ kind, agent }: Moment) => kind ?? agent ?? ""
const after = (ms: number) =>
  new Promise<undefined>((done) => setTimeout(done, ms, undefined).unref())

// Several copies of this file may be loaded; the first to see a moment acts on it.
const shared = globalThis as { [key: symbol]: WeakMap<Moment, object> | undefined }
const taken = (shared[Symbol.for("rlmd.opencode2")] ??= new WeakMap())

const told = new Map<string, string>() // the last word on each fact, in whatever project of this process

export async function setup(host: Host): Promise<() => Promise<void>> {
  const daemon = new Connection(process.cwd(), hear)
  const sessions = new Map<string, Session>()
  const attempts = new Map<string, Attempt>() // by session and purpose, the latest
  const handles: any[] = []
  let open = true

  function hear({ event, model, session, to, message }: Notice) {
    const [fact, word] = [`${event} ${model}`, to ?? message]
    if ((session && !sessions.has(session)) || told.get(fact) === word) return
    remember(told, fact, word)
    if (daemon.settings.stderr) process.stderr.write(`rlmd: ${message}\n`)
  }

  /** What is known of a session. A model that we did not put there was chosen by somebody else. */
  function sessionOf(moment: Moment, starts = false): Session | undefined {
    const [known, now] = [sessions.get(moment.sessionID), placeOf(moment.model)]
    if (!now || (known && isOn(known, now, starts))) return known
    return remember(sessions, moment.sessionID, { home: now, now, hops: 0 })
  }

  const isOn = ({ now, before }: Session, place: Target, surely = false) =>
    same(now, place) || (!surely && !!before && same(before, place))

  /** Whether this is nobody's turn. A compaction with a model of its own is none of the session's. */
  function isAside(moment: Moment) {
    const [known, place] = [sessions.get(moment.sessionID), placeOf(moment.model)]
    const isOwn = () => !known || !place || !isOn(known, place)
    return ASIDE.test(whatOf(moment)) || (whatOf(moment) === "compaction" && isOwn())
  }

  const keyOf = (moment: Moment) =>
    `${moment.sessionID} ${isAside(moment) ? whatOf(moment) : "step"}`

  async function moveTo(sessionID: string, known: Session, { provider, model: name }: Target) {
    const [from, to] = [known.now, { provider, model: name }]
    if (same(from, to)) return
    Object.assign(known, { now: to, before: from }) // from now on requests of either may come
    const model = { providerID: provider, id: name }
    const switching = async () => (await host.session.switchModel({ sessionID, model }), true)
    const isDone = await Promise.race([switching(), after(SLOW)]).catch(() => false)
    if (isDone) return
    Object.assign(known, { now: from, before: to })
    throw new Error("not switched")
  }

  /** Notes a request. The lease is one of our own where the daemon gave none: it counts once. */
  function begin(moment: Moment, place: Target, lease: string = crypto.randomUUID()): Attempt {
    const [session, begun] = [moment.sessionID, new Date().toISOString()]
    giveUp(moment)
    return remember(attempts, keyOf(moment), { ...place, session, lease, begun, ended: false })
  }

  /** The request before this one got no answer; of one that did the end is read elsewhere. */
  function giveUp(moment: Moment) {
    const left = attempts.get(keyOf(moment))
    if (left && !left.next) void report(left, "cancelled")
  }

  /** The request that this is about; one that was not seen to begin has its model. */
  function attemptOf(moment: Moment, isAnswer = false): Attempt | undefined {
    const [latest, place] = [attempts.get(keyOf(moment)), placeOf(moment.model)]
    if (latest && !(isAnswer && latest.next)) return latest
    return place && begin(moment, place)
  }

  /** Tells the daemon; what it would do next. There is one last report, whoever comes first. */
  async function report(attempt: Attempt, outcome: string, facts?: object) {
    if (attempt.ended) return
    attempt.ended = outcome !== "accepted"
    const { provider, model, session, lease, begun } = attempt
    const common = { provider, model, session, lease, started_at: begun, outcome }
    const reply = await daemon.ask("report", { ...common, ...facts })
    return reply?.type === "recorded" ? reply.next : undefined
  }

  /** Reads along until the end, of which OpenCode tells nothing else. Only errors are looked at. */
  async function read(attempt: Attempt, answer: Response): Promise<Response> {
    const redaction = await (attempt.redaction ?? redactionOf())
    const facts = factsOf(answer, redaction)
    if (!answer.ok) {
      const { text, response } = await peek(answer)
      attempt.next = report(attempt, "error", factsOf(answer, redaction, text))
      return response
    }
    if (!isFollowed(answer)) {
      attempt.next = report(attempt, "ok", facts)
      return answer
    }
    let end: (reply: Promise<Use | Wait | undefined>) => void = () => {}
    attempt.next = new Promise((resolve) => (end = resolve))
    return follow(answer, redaction, {
      begun: () => accepted(attempt, facts),
      failed: async (body) => {
        end(report(attempt, "error", { ...facts, body }))
        return undefined // what OpenCode gets is the provider's own
      },
      broke: async (error) => {
        const outcome = nameOf(error) === "AbortError" ? "cancelled" : "error"
        end(report(attempt, outcome, { message: causeOf(error, redaction) }))
        return undefined
      },
      ended: () => end(report(attempt, "ok", facts)),
      left: () => end(report(attempt, "cancelled")),
    })
  }

  function accepted(attempt: Attempt, facts: object) {
    void report(attempt, "accepted", facts)
    const known = sessions.get(attempt.session)
    if (known) Object.assign(known, { hops: 0, told: undefined })
  }

  const hooks: Record<string, (moment: Moment) => Promise<void>> = {
    // A person's turn starts: on whom? Without a daemon on what was asked for.
    prompt: async (moment) => {
      const known = sessionOf(moment, true)
      if (!known) return
      const { sessionID: session, agent } = moment
      const answer = await daemon.ask("acquire", { ...known.home, session, agent, purpose: "turn" })
      Object.assign(known, { hops: 0, told: undefined })
      if (answer?.type !== "wait")
        await moveTo(session, known, answer?.type === "use" ? answer : known.home)
    },

    // It cannot be held back or sent elsewhere any more, but the next one of its turn can.
    "http.request": async (moment) => {
      const { sessionID: session, agent } = moment
      const purpose = isAside(moment) ? "aux" : "step"
      const known = purpose === "step" ? sessionOf(moment) : undefined
      const place = placeOf(moment.model) ?? known?.now
      if (!place) return
      giveUp(moment)
      const asked = { ...(known?.home ?? place), lease_for: place, session, agent, purpose }
      const answer = await daemon.ask("acquire", asked)
      const use = answer?.type === "use" ? answer : undefined
      const attempt = begin(moment, place, use?.lease)
      attempt.ended = answer?.type === "pass"
      attempt.redaction = redactionOf(moment.request?.clone())
      if (known && use) await moveTo(session, known, use)
    },

    "http.response": async (moment) => {
      const attempt = attemptOf(moment, true)
      if (attempt && moment.response) moment.response = await read(attempt, moment.response)
    },

    retry: async (moment) => {
      const attempt = attemptOf(moment)
      attempts.delete(keyOf(moment)) // the next one is another, seen to begin or not
      if (!attempt) return
      const heard = await Promise.race([attempt.next, after(daemon.settings.daemon_timeout_ms)])
      const next = heard ?? (await report(attempt, "error", await failureOf(attempt, moment.error)))
      if (!next || (next.type === "use" && same(next, attempt))) return
      if (ASIDE.test(whatOf(moment))) moment.decision = { retry: false }
      if (isAside(moment)) return
      const known = sessions.get(moment.sessionID) ?? sessionOf(moment)
      if (!known) return
      if (next.type === "use") await hop(moment, known, next)
      else await wait(moment, known, next)
    },
  }

  async function failureOf(attempt: Attempt, failure: Failure = {}) {
    const { type: name, message, status, response } = failure
    const redaction = await (attempt.redaction ?? redactionOf())
    const facts = factsOf({ status, headers: new Headers(response?.headers) }, redaction)
    return { ...facts, message: causeOf({ name, message }, redaction) }
  }

  async function hop(moment: Moment, known: Session, to: Use) {
    if ((known.hops += 1) > HOPS) return
    await moveTo(moment.sessionID, known, to)
    moment.decision = { retry: true, delay: 0 }
  }

  /** All are limited: OpenCode waits if that is not long, and says in the session until when. */
  async function wait(moment: Moment, known: Session, answer: Wait) {
    const { retry_at, retry_after_ms: ms, message, candidates } = answer
    const near = ms !== null && ms <= daemon.settings.wait_ms
    moment.decision = near ? { retry: true, delay: ms } : { retry: false }
    if (!(near && ms <= 5000) && known.told !== message) {
      known.told = message
      void quietly(() => say(moment.sessionID, message)) // the turn waits for no message
    }
    const first = candidates.find(({ until }) => until === retry_at)
    if (near && first) await moveTo(moment.sessionID, known, first)
  }

  const say = (sessionID: string, text: string) =>
    host.session.synthetic({ sessionID, text, resume: false })

  const command = {
    name: NAME,
    description: "All providers' limits",
    execute: async ({ sessionID }: Moment) => {
      const reply = await daemon.ask("status")
      await say(sessionID, reply?.type === "status" ? reply.text : ABSENT)
    },
  }

  async function quietly(act: () => unknown) {
    try {
      return await act()
    } catch {} // OpenCode goes on as it would without us
  }

  for (const [name, act] of Object.entries(hooks)) {
    const guarded = async (moment: Moment) => {
      if (open && !taken.has(moment)) taken.set(moment, hooks)
      if (taken.get(moment) === hooks) await quietly(() => act(moment))
    }
    handles.push(await quietly(() => host.session.hook(name, guarded)))
  }
  const execute = async (call: Moment) => void (await quietly(() => command.execute(call)))
  const add = () => host.command.transform((commands) => commands.add({ ...command, execute }))
  handles.push(await quietly(add))
  return async () => {
    open = false
    daemon.close()
    for (const handle of handles) await quietly(() => handle?.dispose?.())
  }
}

// OpenCode 1.x. Each request is seen in fetch, where the daemon is asked. To send a step elsewhere,
// the step's model is changed in place and OpenCode gets a 429 to retry at once: it looks up the
// provider, key and format of that model again. Nothing here may throw into OpenCode.

import type { Hooks, Plugin, PluginInput } from "@opencode-ai/plugin"
import type { AssistantMessage, Message, Model, Part, UserMessage } from "@opencode-ai/sdk"
import { ABSENT, daemonFor, remember, type Reply, type Target } from "./daemon.ts"
import { peek } from "./answers/body.ts"
import { asError, causeOf } from "./answers/causes.ts"
import { factsOf, wordsOf } from "./answers/errors.ts"
import { follow, isFollowed } from "./answers/follow.ts"
import { Redaction, UNSEEN } from "./answers/redaction.ts"
import { HEADLESS, isShown } from "./tui.ts"

const MARK = "x-rlmd-request" // leads a request from chat.headers to fetch, which takes it off
const COMMAND = "rate_limit_status"
const SPENT = ["cooldown", "limit", "disabled", "fallback_model"] // the one asked for cannot serve

type Entry = { first: Model; now: Model } // of OpenCode's catalogue: as it was, as it is handed out
type Asked = { at: number; answer: Promise<Reply | undefined> }
type Session = {
  attempt?: ReturnType<ReturnType<typeof hooksFor>["attemptOf"]> // the latest, titles apart
  title?: Session["attempt"]
  ahead?: Asked // for the one that is near
  to?: Target // where its next one is to be
  draft?: AssistantMessage // what OpenCode is writing, and would store under its first provider
  history: { info: Message; parts: Part[] }[] // what it sends
}
type Told = { sessionID: string; info?: Message; part?: Part; status?: any; error?: any }
type Fetch = (signal?: AbortSignal) => Promise<Response>
type Send = (fetch: Fetch, redaction: Redaction, stop?: AbortSignal) => Promise<Response>
const sends = new Map<string, Send>() // by mark
let beneath: typeof fetch | undefined // the fetch that ours lies on

async function marked(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const request = input as Partial<Request>
  const headers = new Headers(init?.headers ?? request.headers)
  const send = sends.get(headers.get(MARK) ?? "")
  if (!send) return beneath!(input, init)
  headers.delete(MARK)
  const stop = init?.signal ?? request.signal
  const redaction = Redaction.of(input, { ...init, headers })
  return send((signal) => beneath!(input, { ...init, headers, signal }), redaction, stop)
}

const placeOf = (model: Model): Target => ({ provider: model.providerID, model: model.id })
const same = (a: Target, b: Target) => a.provider === b.provider && a.model === b.model
const clear = (object: any) => (Object.keys(object).forEach((key) => delete object[key]), object)

/** In a provider's stead, on every wire. A 429 is made again after `ms`, a 400 ends the turn. */
function inStead(status: 429 | 400, message: string, ms = 0): Response {
  const headers = { "retry-after-ms": String(ms) }
  return Response.json({ type: "error", error: { type: "rlmd", message } }, { status, headers })
}

/** A person's stop arrives as an abort, and so do time-outs, OpenCode's and ours. */
const endOf = ({ aborted, reason }: AbortSignal) =>
  aborted && !/Timeout|Stream/.test(reason?.name) ? "cancelled" : "error"

/** The hooks of one OpenCode instance, which is one project directory. */
function hooksFor({ client, directory }: PluginInput) {
  const { settings, ask, close } = daemonFor(directory, hear)
  const sessions = new Map<string, Session>()
  const entries = new WeakMap<Model, Entry>() // by the objects handed out
  const firsts = new Map<string, Model>() // by place: the catalogue lists the moved ones in theirs
  const told = new Map<string, string>() // the last word on each fact
  let follows = true // OpenCode follows a changed model
  const sessionOf = (id: string) => sessions.get(id) ?? remember(sessions, id, { history: [] })
  /** Of a request that has passed fetch by only the messages are known, if they are. */
  function sentBy(session: string): Redaction {
    const { history = [] } = sessions.get(session) ?? {}
    return new Redaction({ body: history.length > 0 ? JSON.stringify(history) : UNSEEN })
  }
  const toast = (message: string, variant: "info" | "warning", duration: number) =>
    client.tui.showToast({ body: { title: "rlmd", message, variant, duration } }).catch(() => {})

  /** One notice a fact: to the screen, or to stderr where there is none. */
  function tell(fact: string, word: string, message: string) {
    if (told.get(fact) === word) return
    told.set(fact, word)
    if (!HEADLESS) toast(message, "warning", 6000)
    else if (settings.stderr) process.stderr.write(`rlmd: ${message}\n`)
  }

  function hear({ event, model, session, to, message }: Reply) {
    if (!session || sessions.has(session)) tell(`${event} ${model}`, to ?? message, message)
  }

  async function find({ provider, model }: Target): Promise<Model | undefined> {
    const all = async () => (await client.config.providers()).data?.providers
    const named = (one: { id: string }) => one.id === provider
    const found = firsts.get(provider + "/" + model) ?? (await all())?.find(named)?.models[model]
    if (!found) tell(provider + model, "", `OpenCode has no model ${provider}/${model}.`)
    return found
  }

  /** From its second request on OpenCode finds copies: no session sees the changes of another. */
  function entryOf(live: Model, models?: Record<string, Model>): Entry {
    const known = entries.get(live)
    if (known) return known
    const first = remember(firsts, live.providerID + "/" + live.id, structuredClone(live))
    const entry = { first, now: first }
    const own = (copy: Model) => (entries.set(copy, entry), copy)
    const get = () => own(structuredClone(entry.now))
    const set = (model: Model) => (entry.now = model)
    if (models?.[live.id] === own(live)) Object.defineProperty(models, live.id, { get, set })
    return entry
  }

  /** Takes off what others have signed; who began an answer that broke off is stored nowhere. */
  function unsign(history: Session["history"], to?: Target) {
    for (const { info, parts } of history) {
      if (info.role !== "assistant") continue
      const by = { provider: info.providerID, model: info.modelID }
      const begun = parts.findLastIndex(({ type }) => type === "step-start")
      for (const [at, part] of parts.entries())
        if ("metadata" in part && !(at > begun && same(by, to ?? by))) clear(part.metadata ?? {})
    }
  }

  function become(live: Model, entry: Entry, model: Model) {
    Object.assign(clear(live), structuredClone(model))
    entry.now = model // and who began with the same object finds this in its place:
    for (const one of sessions.values()) if (one.attempt?.live === live) one.to = undefined
  }

  const acquire = (question: object) => ({ at: Date.now(), answer: ask("acquire", question) })
  const giveBack = (reply?: Reply) =>
    reply?.lease && void ask("report", { ...reply, outcome: "unsent", retry: false })

  /** One request. A title or summary (`aux`) cannot be moved: OpenCode starts none anew. */
  function attemptOf(session: string, agent: string, live: Model, entry: Entry) {
    const place = placeOf(live)
    const purpose = /^(title|summary)$/.test(agent) ? "aux" : "step"
    const facts = { ...place, session, lease: "" } // the daemon's or its own: it counts once
    const question = { ...placeOf(entry.first), lease_for: place, session, agent, purpose }
    const ahead = purpose === "step" ? sessionOf(session).ahead : undefined
    const since = Date.now()
    let asked: Asked | undefined = ahead ?? acquire(question) // OpenCode goes on meanwhile
    let ended = false // its last report is made, or none is due
    let timer: ReturnType<typeof setTimeout> | undefined // of the first byte
    let acts = false // a tool that it called runs: it must not be asked for again

    /** Makes OpenCode's next try of this step, if any, go elsewhere, without what others signed. */
    async function move(to: Target): Promise<boolean> {
      if (purpose === "aux" || !follows) return false
      const model = await find(to)
      if (!model || sessions.get(session)?.attempt?.send !== send) return false // or stopped by now
      become(live, entry, model)
      unsign(Object.assign(sessionOf(session), { to }).history, to)
      return true
    }

    /** What OpenCode gets instead of the request or its failure, if the daemon knows better. */
    async function instead(answer?: Reply): Promise<Response | undefined> {
      if (answer?.type === "use" && !same(answer, place)) {
        if (await move(answer).catch(() => false)) return inStead(429, answer.message)
        if (purpose === "aux" && SPENT.includes(answer.reason)) return inStead(400, answer.message)
      } else if (answer?.type === "wait") {
        const { retry_after_ms: ms, retry_at: at, message, brief, candidates: all } = answer
        if (ms === null || ms > settings.wait_ms) return inStead(400, brief)
        if (ms > 3000) tell("wait", brief, message)
        await move(all?.find((one: any) => one.until === at)).catch(() => {}) // who is back first
        return inStead(429, message, ms)
      }
    }

    /** Tells the daemon how it went, once at its end. `again`: when what failed was to be retried. */
    async function report(outcome: string, more?: object, again = Infinity) {
      if (ended || since >= again) return // the failure was that of the try before this one
      clearTimeout(timer)
      ended = outcome !== "accepted"
      if (asked) await latest(Infinity) // past fetch: nobody has waited for its lease
      return instead((await ask("report", { ...facts, outcome, ...more }))?.next)
    }

    /** The daemon's word on this place, as of now: one that was let wait (ms) is asked for again. */
    async function latest(fresh = 40): Promise<Reply | undefined> {
      const { at, answer } = asked ?? acquire(question)
      asked = undefined
      const reply = await answer
      facts.lease = reply?.lease ?? crypto.randomUUID()
      if (!reply || (Date.now() - at <= fresh && (!reply.lease || same(reply, place)))) return reply
      giveBack(reply)
      return latest(fresh * 1.5) // a machine may be too busy for less
    }

    async function send(fetch: Fetch, redaction: Redaction, stop?: AbortSignal) {
      ended = true
      const answer = await latest()
      const early = await instead(answer)
      if (early || answer?.type === "pass") return early ?? fetch(stop)
      Object.assign(facts, { started_at: new Date().toISOString() })
      ended = false
      const cut = new AbortController()
      const signal = stop ? AbortSignal.any([stop, cut.signal]) : cut.signal
      const patience = answer && settings.first_byte_ms
      const late = () => new DOMException(`timed out: nothing in ${patience} ms`, "TimeoutError")
      timer = patience ? setTimeout(() => cut.abort(late()), patience) : undefined
      try {
        const response = await fetch(signal)
        if (!response.ok) return await refused(response, redaction, cut)
        if (answer && isFollowed(response)) return followed(response, redaction, signal, cut)
        setImmediate(() => report("ok", factsOf(response, redaction))) // nobody would act on more
        return response
      } catch (error) {
        const message = causeOf(error, redaction)
        return (await report(endOf(signal), { message })) ?? Promise.reject(error)
      }
    }

    async function refused(refusal: Response, redaction: Redaction, cut: AbortController) {
      const { text, response } = await peek(refusal)
      const better = await report("error", factsOf(response, redaction, text))
      if (better) cut.abort() // nobody reads the rest
      return better ?? response
    }

    /** The answer as it comes. Where it fails and the daemon knows better, OpenCode tries again. */
    function followed(
      response: Response,
      redaction: Redaction,
      signal: AbortSignal,
      cut: AbortController,
    ) {
      const facts = factsOf(response, redaction)
      const rest = async (better?: Response) => better && (acts ? "end" : await asError(better))
      return follow(response, redaction, {
        byte: () => clearTimeout(timer),
        begun: () => void report("accepted", facts),
        failed: async (body) => rest(await report("error", { ...facts, body })),
        broke: async (error) =>
          rest(await report(endOf(signal), { message: causeOf(error, redaction) })),
        ended: () => report("ok"),
        left: () => report("cancelled"),
        close: () => cut.abort(),
      })
    }

    /** What it cost, after its end; what has passed fetch by ends only here. */
    const spent = (usage: object) =>
      ended ? ask("usage", { ...facts, usage }) : report("ok", { usage })
    const acted = (state: string) => (acts ||= state !== "pending")
    const restore = () => become(live, entry, entry.first)
    const leave = () => (restore(), asked && report("cancelled")) // on its way to fetch, or past it
    return { purpose, live, send, report, spent, acted, restore, leave }
  }

  /** In the place of what was asked of OpenCode. */
  async function showStatus(id: string): Promise<never> {
    const text: string = (await ask("status"))?.text ?? ABSENT
    if (HEADLESS) {
      process.stdout.write(text.trimEnd() + "\n")
      setTimeout(() => client.session.abort({ path: { id } }).catch(() => {}), 100)
    } else {
      toast(text, "info", 15_000)
      const parts = [{ type: "text" as const, text, ignored: true }]
      const busy = (await client.session.status()).data?.[id] // then it would join the turn
      if (!busy) await client.session.prompt({ path: { id }, body: { noReply: true, parts } })
    }
    throw ANSWERED
  }

  const hooks: Hooks = {
    config: async (config) => {
      void ask("ping") // so that the first request finds the connection made
      const command = { template: "Say: rlmd is not active.", description: "All providers' limits" }
      if (!isShown()) (config.command ??= {})[COMMAND] ??= command
    },
    // A person's turn starts: on whom?
    "chat.message": async ({ sessionID: session, agent }, { message, parts }) => {
      if (parts.every((part) => part.type === "text" && part.ignored)) return // no model gets this
      const words = parts.map((part) => (part.type === "text" ? part.text : "")).join("")
      if (words.trim() === `/${COMMAND}`) await showStatus(session) // typed with a blank behind it
      sessionOf(session).attempt?.restore()
      const asked = { provider: message.model.providerID, model: message.model.modelID }
      const answer = await ask("acquire", { ...asked, session, agent, purpose: "turn" })
      if (answer?.type !== "use" || same(answer, asked) || !(await find(answer))) return
      const model = { providerID: answer.provider, modelID: answer.model }
      message.model = { ...message.model, ...model } // the old one may be an agent's for good
    },
    // A request is being made: mark it, so that fetch knows whose it is.
    "chat.headers": async ({ sessionID: session, agent, model: live, provider }, { headers }) => {
      const attempt = attemptOf(session, agent, live, entryOf(live, (provider as any)?.models))
      if (attempt.purpose === "step") {
        const known = sessionOf(session)
        if (known.to && !same(known.to, placeOf(live))) {
          follows = false
          known.attempt?.restore()
          tell("follows", "", "This OpenCode does not follow a switch within a turn.")
        }
        Object.assign(known.draft ?? {}, { providerID: live.providerID, modelID: live.id })
        Object.assign(known, { attempt, to: undefined, ahead: undefined })
      } else sessionOf(session).title = attempt
      remember(sends, (headers[MARK] = `${session} ${attempt.purpose}`), attempt.send)
    },
    // A step is near: the daemon answers while OpenCode makes it ready.
    "experimental.chat.messages.transform": async (_, { messages }) => {
      unsign(messages)
      const user = messages.findLast(({ info }) => info.role === "user")!.info as UserMessage
      const { sessionID: session, agent } = user
      const { providerID: provider, modelID: model } = user.model
      const ahead = acquire({ provider, model, session, agent, purpose: "step" })
      Object.assign(sessionOf(session), { history: messages, ahead })
    },
    // Failures are news only where a request has passed fetch by.
    event: async ({ event: { type, properties } }) => {
      const { info, part, status, error, sessionID = part?.sessionID ?? "" } = properties as Told
      const { attempt, title, ahead } = sessions.get(sessionID) ?? {}
      if (type === "message.updated" && info?.role === "assistant") {
        sessionOf(info.sessionID).draft = info.time.completed ? undefined : info
      } else if (type === "message.part.updated" && part?.type === "tool") {
        attempt?.acted(part.state.status)
      } else if (type === "message.part.updated" && part?.type === "step-finish") {
        const { cache, ...usage } = part.tokens
        Object.assign(usage, { cache_read: cache.read, cache_write: cache.write, cost: part.cost })
        await attempt?.spent(usage)
      } else if (type === "session.status" && status.type === "retry") {
        const message = wordsOf(status.message, sentBy(sessionID))
        await attempt?.report("error", { message }, status.next)
      } else if (type === "session.error" && error?.name === "APIError") {
        const { message, statusCode: status, responseHeaders, responseBody } = error.data
        const [headers, redaction] = [new Headers(responseHeaders), sentBy(sessionID)]
        const facts = factsOf({ status, headers }, redaction, responseBody)
        await attempt?.report("error", { ...facts, message: wordsOf(message, redaction) })
      } else if (type === "session.idle") {
        ahead?.answer.then(giveBack)
        for (const one of [attempt, title]) void one?.leave()
        sessions.delete(sessionID)
      }
    },
    "command.execute.before": async ({ command, sessionID }) => {
      if (command === COMMAND) await showStatus(sessionID)
    },
  }
  return { hooks, attemptOf, close }
}

/** Thrown, it stops a command. OpenCode's server takes it for an empty response: no error. */
const KIND = "~effect/http/HttpServerResponse"
const EMPTY = { status: 204, headers: {}, cookies: { cookies: {} }, body: { _tag: "Empty" } }
const ANSWERED = Object.assign(new Error("rlmd has answered"), { [KIND]: KIND, ...EMPTY })

// The newest instance serves its directory, in whatever other place this file may lie too.
const serving = ((globalThis as any)[Symbol.for("rlmd.opencode")] ??= new Map<string, object>())

export const server: Plugin = async (input) => {
  const { hooks, close } = hooksFor(input)
  serving.set(input.directory, hooks)
  if (!beneath) globalThis.fetch = Object.assign(marked, (beneath = globalThis.fetch))
  const guarded: Record<string, Function> = {}
  for (const [name, act] of Object.entries<Function>(hooks as {}))
    guarded[name] = async (...args: unknown[]) => {
      if (serving.get(input.directory) !== hooks) return
      await act(...args).catch((error: unknown) => error === ANSWERED && Promise.reject(error))
    }
  const dispose = async () => {
    close()
    if (serving.get(input.directory) === hooks) serving.delete(input.directory)
    const last = !serving.size && globalThis.fetch === marked // else another wrapper lies on ours
    if (last) [globalThis.fetch, beneath] = [beneath!, undefined]
  }
  return { ...guarded, dispose }
}

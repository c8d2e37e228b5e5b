// OpenCode 1.x. Each request is seen in fetch, where the daemon is asked. To send a step elsewhere,
// the step's model is changed in place and OpenCode gets a 429 to retry at once: it looks up the
// provider, key and format of that model again. Nothing here may throw into OpenCode.

import type { Hooks, Plugin, PluginInput } from "@opencode-ai/plugin"
import type { AssistantMessage, Message, Model, Part } from "@opencode-ai/sdk"
import { ABSENT, daemonFor, remember } from "./daemon.ts"
import type { Event, Reply, Target } from "./daemon.ts"
import { causeOf, errorIn, errorOf, factsOf, reader } from "./response.ts"
import { isShown } from "./tui.ts"

const MARK = "x-rlmd-request" // leads a request from chat.headers to fetch, which takes it off
const COMMAND = "rate_limit_status"
const SPENT = ["cooldown", "limit", "disabled", "fallback_model"] // the one asked for cannot serve
const HEADLESS = process.argv.slice(2).find((word) => !word.startsWith("-")) === "run"

type Entry = { first: Model; now: Model } // of OpenCode's catalogue: as it was, as it is handed out
type Attempt = Target & {
  session: string
  agent: string
  purpose: "step" | "aux" // a title or summary cannot be moved: OpenCode starts none anew
  live: Model // OpenCode's own object, and this request's alone
  entry: Entry
  lease?: string
  begun?: string
  ended: boolean // its last report is made, or none is due
}
type Session = {
  attempt?: Attempt // the latest, titles apart
  to?: Target // where its next one is to be
  draft?: AssistantMessage // what OpenCode is writing
  history: { info: Message; parts: Part[] }[] // what it sends
}
type Fetch = (signal?: AbortSignal) => Promise<Response>

const sends = new Map<string, (fetch: Fetch, stop?: AbortSignal) => Promise<Response>>() // by mark
let beneath: typeof fetch | undefined // the fetch that ours lies on

async function marked(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const request = input instanceof Request ? input : undefined
  const headers = new Headers(init?.headers ?? request?.headers)
  const send = sends.get(headers.get(MARK) ?? "")
  if (!send) return beneath!(input, init)
  headers.delete(MARK)
  const stop = init?.signal ?? request?.signal
  return send((signal) => beneath!(input, { ...init, headers, signal }), stop)
}

const same = (a: Target, b: Target) => a.provider === b.provider && a.model === b.model
const placeOf = (model: Model): Target => ({ provider: model.providerID, model: model.id })

function clear(object: object) {
  for (const key of Object.keys(object)) delete (object as any)[key]
}

/** An answer in the provider's stead; every wire format finds its error there. OpenCode makes a 429
 *  again after this time, and ends the turn with a 400. */
function inStead(status: 429 | 400, message: string, ms = 0): Response {
  const body = JSON.stringify({ type: "error", error: { type: "rlmd", message } })
  const headers = { "content-type": "application/json", "retry-after-ms": String(ms) }
  return new Response(body, { status, headers })
}

/** A person's stop arrives as an abort, and so do time-outs, OpenCode's and ours. */
const endOf = ({ aborted, reason }: AbortSignal) =>
  aborted && !/Timeout|Stream/.test(reason?.name) ? "cancelled" : "error"

/** The hooks of one OpenCode instance, which is one project directory. */
function hooksFor({ client, directory }: PluginInput) {
  const daemon = daemonFor(directory, hear)
  const sessions = new Map<string, Session>()
  const entries = new WeakMap<Model, Entry>() // by the objects handed out
  const told = new Map<string, string>() // the last word on each fact
  let follows = true // OpenCode follows a changed model

  const sessionOf = (id: string): Session =>
    sessions.get(id) ?? remember(sessions, id, { history: [] })

  function toast(message: string, variant: "info" | "warning", duration: number) {
    client.tui.showToast({ body: { title: "rlmd", message, variant, duration } }).catch(() => {})
  }

  /** One notice a fact: to the screen, or to stderr where there is none. */
  function tell(fact: string, word: string, message: string) {
    if (told.get(fact) === word) return
    told.set(fact, word)
    if (!HEADLESS) toast(message, "warning", 6000)
    else if (daemon.settings.stderr) process.stderr.write(`rlmd: ${message}\n`)
  }

  function hear({ event, model, session, to, message }: Event) {
    if (!session || sessions.has(session)) tell(`${event} ${model}`, to ?? message, message)
  }

  async function find({ provider, model }: Target): Promise<Model | undefined> {
    const all = (await client.config.providers()).data?.providers
    const found = all?.find(({ id }) => id === provider)?.models[model]
    const name = `${provider}/${model}`
    if (!found) tell(name, "missing", `OpenCode has no model ${name}.`)
    return found
  }

  /** From a model's second request on OpenCode finds a copy of its own: sessions of one process do
   *  not see each other's changes. */
  function entryOf(live: Model, models: Record<string, Model> = {}): Entry {
    const known = entries.get(live)
    if (known) return known
    const entry: Entry = { first: structuredClone(live), now: live }
    const get = () => {
      const copy = structuredClone(entry.now)
      entries.set(copy, entry)
      return copy
    }
    entry.now = entry.first
    entries.set(live, entry)
    const place = { get, set: (model: Model) => (entry.now = model) }
    if (models[live.id] === live)
      Object.defineProperty(models, live.id, { ...place, enumerable: true, configurable: true })
    return entry
  }

  function become(live: Model, entry: Entry, model: Model) {
    clear(live)
    Object.assign(live, structuredClone(model))
    entry.now = model
  }

  /** Makes OpenCode's next try of this step go elsewhere, without what others have signed. */
  async function move({ purpose, session, live, entry }: Attempt, to: Target): Promise<boolean> {
    if (purpose === "aux" || !follows) return false
    const model = same(to, placeOf(entry.first)) ? entry.first : await find(to)
    if (!model) return false
    become(live, entry, model)
    const known = sessionOf(session)
    known.to = to
    for (const { info, parts } of known.history) {
      if (info.role === "user" || same(to, { provider: info.providerID, model: info.modelID }))
        continue
      for (const part of parts) if ("metadata" in part) clear(part.metadata ?? {})
    }
    return true
  }

  /** What OpenCode gets instead of a request or its failure, if the daemon knows better. */
  async function instead(attempt: Attempt, answer?: Reply): Promise<Response | undefined> {
    if (answer?.type === "use" && !same(answer, attempt)) {
      if (await move(attempt, answer).catch(() => false)) return inStead(429, answer.message)
      if (attempt.purpose === "aux" && SPENT.includes(answer.reason))
        return inStead(400, answer.message)
    }
    if (answer?.type !== "wait") return
    const { retry_after_ms: ms, message, brief } = answer
    if (ms === null || ms > daemon.settings.wait_ms) return inStead(400, brief)
    if (ms > 5000) tell("wait", brief, message)
    return inStead(429, message, ms)
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

  async function send(attempt: Attempt, fetch: Fetch, stop?: AbortSignal): Promise<Response> {
    const { provider, model, session, agent, purpose, entry } = attempt
    attempt.ended = true
    const lease_for = { provider, model }
    const asked = { ...placeOf(entry.first), lease_for, session, agent, purpose }
    const answer = await daemon.ask("acquire", asked)
    const early = await instead(attempt, answer)
    if (early) return early
    if (answer?.type === "pass") return fetch(stop)
    if (answer?.type === "use" && answer.lease) attempt.lease = answer.lease
    attempt.begun = new Date().toISOString()
    attempt.ended = false
    const cut = new AbortController()
    const signal = stop ? AbortSignal.any([stop, cut.signal]) : cut.signal
    const patience = answer && daemon.settings.first_byte_ms
    const silence = `request timed out: nothing came in ${patience} ms`
    const late = () => cut.abort(new DOMException(silence, "TimeoutError"))
    const timer = patience ? setTimeout(late, patience) : undefined
    try {
      const response = await fetch(signal)
      const error = await errorOf(response)
      const facts = { ...factsOf(response), body: error }
      const next = report(attempt, error === undefined ? "accepted" : "error", facts)
      if (error === undefined) return follow(attempt, response, signal)
      const better = await instead(attempt, await next)
      if (better) cut.abort()
      return better ?? response
    } catch (error) {
      const next = await report(attempt, endOf(signal), { message: causeOf(error) })
      const better = await instead(attempt, next)
      if (better) return better
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  /** The answer as it comes. Its end is reported, whichever it is. */
  function follow(attempt: Attempt, response: Response, signal: AbortSignal): Response {
    const read = reader()
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>({
      async transform(chunk, out) {
        const body = read(chunk).map(errorIn).find(Boolean)
        const next = body && (await report(attempt, "error", { body }))
        if (next && (await instead(attempt, next)))
          throw new Error(`server error in mid-answer: ${next.message}`) // OpenCode tries again
        out.enqueue(chunk)
      },
    })
    response.body?.pipeTo(writable).then(
      () => report(attempt, "ok"),
      async (error) => {
        const next = await report(attempt, endOf(signal), { message: causeOf(error) })
        await instead(attempt, next)
      },
    )
    return new Response(readable, response)
  }

  /** A failure that OpenCode tells of. Fetch has told of it already, unless it was passed by. */
  async function failed(session: string | undefined, facts: object) {
    const attempt = sessions.get(session ?? "")?.attempt
    if (attempt) await instead(attempt, await report(attempt, "error", facts))
  }

  function restore(session: string) {
    const attempt = sessions.get(session)?.attempt
    if (attempt) become(attempt.live, attempt.entry, attempt.entry.first)
  }

  const hooks: Hooks = {
    config: async (config) => {
      const command = { template: "Say: rlmd is not active.", description: "All providers' limits" }
      if (!isShown()) (config.command ??= {})[COMMAND] ??= command
    },

    // A person's turn starts: on whom?
    "chat.message": async ({ sessionID: session, agent }, { message, parts }) => {
      if (parts.every((part) => part.type === "text" && part.ignored)) return // no model gets this
      restore(session)
      sessionOf(session)
      const asked = { provider: message.model.providerID, model: message.model.modelID }
      const answer = await daemon.ask("acquire", { ...asked, session, agent, purpose: "turn" })
      if (answer?.type !== "use" || same(answer, asked) || !(await find(answer))) return
      const model = { providerID: answer.provider, modelID: answer.model }
      message.model = { ...message.model, ...model } // the old one may be an agent's for good
    },

    // A request is being made: mark it, so that fetch knows whose it is.
    "chat.headers": async ({ sessionID: session, agent, model: live, provider }, { headers }) => {
      const entry = entryOf(live, (provider as any)?.models)
      const purpose = agent === "title" || agent === "summary" ? "aux" : "step"
      const lease = crypto.randomUUID() // of our own, for where the daemon gives none
      const place = placeOf(live)
      const attempt: Attempt = {
        ...place,
        session,
        agent,
        purpose,
        live,
        entry,
        lease,
        ended: false,
      }
      if (purpose === "step") {
        const known = sessionOf(session)
        if (known.to && !same(known.to, place)) {
          follows = false
          restore(session)
          tell("follows", "no", "This OpenCode does not follow a switch within a turn.")
        }
        const label = { providerID: live.providerID, modelID: live.id }
        if (known.draft) Object.assign(known.draft, label) // or it is stored under the first one
        Object.assign(known, { attempt, to: undefined })
      }
      const mark = `${session}/${purpose}`
      remember(sends, mark, (fetch, stop) => send(attempt, fetch, stop))
      headers[MARK] = mark
    },

    "experimental.chat.messages.transform": async (_, { messages }) => {
      const session = messages.at(-1)?.info.sessionID
      if (session) sessionOf(session).history = messages
    },

    event: async ({ event }) => {
      if (event.type === "message.updated") {
        const { info } = event.properties
        if (info.role === "user") return
        sessionOf(info.sessionID).draft = info.time.completed ? undefined : info
      } else if (event.type === "message.part.updated") {
        const { part } = event.properties
        const attempt = sessions.get(part.sessionID)?.attempt
        if (part.type !== "step-finish" || !attempt) return
        const { cache, ...tokens } = part.tokens
        const cached = { cache_read: cache.read, cache_write: cache.write }
        const usage = { ...tokens, ...cached, cost: part.cost }
        if (!attempt.ended) return void report(attempt, "ok", { usage })
        const { provider, model, session, lease } = attempt
        void daemon.ask("usage", { provider, model, session, lease, usage })
      } else if (event.type === "session.status") {
        const { sessionID, status } = event.properties
        if (status.type === "retry") await failed(sessionID, { message: status.message })
      } else if (event.type === "session.error" && event.properties.error?.name === "APIError") {
        const { message, statusCode, responseHeaders, responseBody } = event.properties.error.data
        const response = new Response(null, { status: statusCode, headers: responseHeaders })
        const body = responseBody?.slice(0, 4096)
        await failed(event.properties.sessionID, { ...factsOf(response), message, body })
      } else if (event.type === "session.idle") {
        restore(event.properties.sessionID)
        sessions.delete(event.properties.sessionID)
      }
    },

    "command.execute.before": async ({ command, sessionID: id }) => {
      if (command !== COMMAND) return
      const reply = await daemon.ask("status")
      const text = reply?.type === "status" ? reply.text : ABSENT
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
    },
  }
  return { hooks, close: daemon.close }
}

/** Thrown, it stops a command. OpenCode's server takes it for an empty response: no error. */
const ANSWERED = Object.assign(new Error("rlmd has answered"), {
  "~effect/http/HttpServerResponse": "~effect/http/HttpServerResponse",
  status: 204,
  headers: {},
  cookies: { cookies: {} },
  body: { _tag: "Empty" },
})

// The newest instance serves its directory, in whatever other place this file may lie too.
const shared = globalThis as { [key: symbol]: Map<string, object> | undefined }
const serving = (shared[Symbol.for("rlmd.opencode")] ??= new Map())

export const server: Plugin = async (input) => {
  const { directory } = input
  const { hooks, close } = hooksFor(input)
  serving.set(directory, hooks)
  if (!beneath) {
    beneath = globalThis.fetch
    globalThis.fetch = Object.assign(marked, beneath)
  }
  const guarded = Object.entries(hooks).map(([name, act]) => [
    name,
    async (...args: unknown[]) => {
      if (serving.get(directory) !== hooks) return
      try {
        await act(...args)
      } catch (error) {
        if (error === ANSWERED) throw error
      }
    },
  ])
  const dispose = async () => {
    if (serving.get(directory) === hooks) serving.delete(directory)
    close()
    if (serving.size || globalThis.fetch !== marked) return // another wrapper may lie on ours
    globalThis.fetch = beneath!
    beneath = undefined
  }
  return { ...Object.fromEntries(guarded), dispose }
}

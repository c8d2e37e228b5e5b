// The shim between OpenCode 1.x and rlmd, the daemon that knows every provider's limits.
//
// It asks before each request where that should go, tells what came of it, and does what the
// answer says: every decision is the daemon's. Without a daemon OpenCode works as if this file were
// not here: nothing waits beyond a deadline, nothing throws. Prompts, answers, request headers and
// keys never leave the process. `rlmctl install opencode` puts the file in its place.

import net from "node:net"
import type { Hooks, Plugin, PluginInput } from "@opencode-ai/plugin"
import type { Model } from "@opencode-ai/sdk"
import { isShown } from "./rlmd/tui.ts"

const VERSION: string = "@VERSION@"
const SOCKET: string = process.env.RLMD_SOCKET || "@SOCKET@"

const MARK = "x-rlmd-request" // leads a request from chat.headers to fetch; never on the wire
const COMMAND = "rate_limit_status"
const BODY = 4096 // characters of an error's body that are reported
const HOPS = 4 // OpenCode tries a step five more times; the last is for a plain failure
const TELLING = /^(retry-after|x-codex-|x-should-retry$|content-type$)|rate-?limit/
const SPENT = ["cooldown", "limit", "disabled", "fallback_model"] // the one asked for cannot serve
const ABSENT = "rlmd is not running. Start it with: rlmctl start"
const HEADLESS = process.argv.slice(2).find((word) => !word.startsWith("-")) === "run"

type Target = { provider: string; model: string }
type Use = Target & { type: "use"; lease?: string; reason: string; message: string }
type Rest = Target & { state: string; until: string | null }
type Wait = { type: "wait"; retry_after_ms: number | null; message: string; candidates: Rest[] }
type Recorded = { type: "recorded"; next?: Use | Wait }
type Reply = Use | Wait | Recorded | { type: "status"; text: string } | { type: "pass" | "error" }

const same = (a: Target, b: Target) => a.provider === b.provider && a.model === b.model
const nameOf = (target: Target) => `${target.provider}/${target.model}`

/** Puts it into the map, which forgets its oldest rather than grow without end. */
function remember<K, V>(map: Map<K, V>, key: K, value: V, most = 1000) {
  map.set(key, value)
  if (map.size > most) map.delete(map.keys().next().value!)
}

async function quietly<T>(act: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await act()
  } catch {
    return undefined
  }
}

// ---------------------------------------------------------------------------------- the daemon

type Keep = "once" | "again" // deliver it later if not now; even if it may have arrived already
type Call = { line: string; keep?: Keep; sent: boolean; answer: (reply?: Reply) => void }

/** One connection for the whole process. It heals by itself, and nobody waits for that. */
function daemonFor(directory: string) {
  const self = { client: "opencode-shim", version: VERSION, pid: process.pid, directory }
  const settings = { daemon_timeout_ms: 150, first_byte_ms: 0, wait_ms: 120_000, stderr: true }
  const calls = new Map<number, Call>() // without a reply so far, in the order of their making
  let socket: net.Socket | undefined
  let lastId = 0
  let ready = false // between a welcome and the end of its connection
  let trusted = true // false from the first silence or refusal until the next welcome
  let backoff = 50 // ms until the next try; doubles until an answer comes in time
  let closed = false

  /** The reply, or undefined where there is none in time. */
  function ask(op: string, fields: object, keep?: Keep): Promise<Reply | undefined> {
    if (closed || (!trusted && !keep)) return Promise.resolve(undefined)
    return new Promise((resolve) => {
      const id = ++lastId
      const timer = setTimeout(() => (answer(), socket?.destroy()), settings.daemon_timeout_ms)
      const answer = (reply?: Reply) => (clearTimeout(timer), resolve(reply))
      const line = JSON.stringify({ ...fields, op, id }) + "\n"
      const call: Call = { line, keep, sent: false, answer }
      remember(calls, id, call, 100)
      if (!trusted) answer()
      if (ready) send(call)
      else if (trusted) connect()
    })
  }

  function connect() {
    if (socket || closed) return
    socket = net.connect(SOCKET).unref().setEncoding("utf8")
    let rest = ""
    socket.on("data", (text: string) => {
      const lines = (rest + text).split("\n")
      rest = lines.pop() ?? ""
      for (const line of lines) void quietly(() => receive(JSON.parse(line)))
    })
    socket.on("error", () => {}) // a close follows
    socket.on("close", lost)
    socket.write(JSON.stringify({ ...self, op: "hello", id: 0, protocol: 1 }) + "\n")
  }

  function send(call: Call) {
    call.sent = true
    socket?.write(call.line)
  }

  function receive(reply: any) {
    if (reply.type === "welcome") {
      Object.assign(settings, reply.settings)
      ready = trusted = true
      for (const call of calls.values()) send(call)
    }
    const call = calls.get(reply.id)
    calls.delete(reply.id)
    if (call) backoff = 50
    call?.answer(reply)
  }

  /** Silence ends the connection too: with it the daemon lets go what it reserved for us. */
  function lost() {
    socket = undefined
    ready = trusted = false
    for (const [id, call] of calls) {
      call.answer()
      if (!call.keep || (call.sent && call.keep === "once")) calls.delete(id)
    }
    setTimeout(connect, backoff).unref()
    backoff = Math.min(backoff * 2, 10_000)
  }

  const close = () => ((closed = true), socket?.end())
  return { settings, ask, close }
}

// ------------------------------------------------------------------------- what a response says

type Heard = { chunks: Uint8Array[]; error?: string }

/** A response's chunks, the first of them as soon as it is known whether the request was accepted.
 *  Only errors are read, wherever they come; answers are not. */
async function* listen(response: Response): AsyncGenerator<Heard> {
  const type = response.headers.get("content-type") ?? ""
  const [events, whole] = [/event-stream/.test(type), !response.ok || /json/.test(type)]
  const decoder = new TextDecoder()
  let [known, text, chunks] = [!whole && !events, "", [] as Uint8Array[]]
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk)
    if (whole || events) text += decoder.decode(chunk, { stream: true })
    const lines = events && !whole ? text.split(/\r?\n/) : [text]
    text = lines.pop() ?? ""
    const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5))
    known ||= data.length > 0
    if (known) yield { chunks: chunks.splice(0), error: data.map(errorIn).find(Boolean) }
  }
  yield { chunks, error: response.ok ? errorIn(text) : text.slice(0, BODY) }
}

/** The error of one JSON event, without what else the event holds: that may be the answer. */
function errorIn(event: string): string | undefined {
  if (!/"error"|"response\.failed"/.test(event)) return // most events: not worth parsing
  try {
    const { type, code, message, error, response } = JSON.parse(event)
    const cause = error ?? (type === "response.failed" ? response?.error : undefined)
    const told = { type, code, message, error: cause }
    if (cause || type === "error") return JSON.stringify(told).slice(0, BODY)
  } catch {} // text that only looks like one
}

function streamOf(chunks: AsyncGenerator<Uint8Array>, cut: AbortController) {
  return new ReadableStream<Uint8Array>({
    async pull(out) {
      const { value, done } = await chunks.next()
      if (done) out.close()
      else out.enqueue(value)
    },
    cancel() {
      cut.abort() // without it the generator would sit out a read that is under way
      void chunks.return(undefined)
    },
  })
}

/** What went wrong, without addresses: some carry a key. */
const causeOf = (error: any) =>
  `${error?.name}: ${error?.code ?? ""} ${error?.message}`.replace(/https?:\S+/g, "").slice(0, BODY)

/** A person's stop arrives as an abort, and so do time-outs, OpenCode's and ours. */
const endOf = ({ aborted, reason }: AbortSignal) =>
  aborted && !/Timeout|Stream/.test(reason?.name) ? "cancelled" : "error"

/** An answer in the provider's stead; every wire format finds its error there. */
function inStead(status: number, message: string, headers: Record<string, string> = {}): Response {
  const body = JSON.stringify({ type: "error", error: { type: "rlmd", message } })
  return new Response(body, { status, headers: { "content-type": "application/json", ...headers } })
}

/** OpenCode sends the step again after this time, to the model that it then finds. */
const again = (message: string, ms = 0) => inStead(429, message, { "retry-after-ms": String(ms) })

/** OpenCode ends the turn. The text has none of the words that it takes for a reason to retry. */
function refusal(rests: Rest[]): Response {
  const local = (time: string) => new Date(time).toLocaleString()
  const each = ({ until, state, ...target }: Rest) =>
    `${nameOf(target)} ${until ? `rests until ${local(until)}` : `is ${state}`}`
  return inStead(400, `Nobody can serve this now: ${rests.map(each).join("; ")} (rlmctl status)`)
}

// ------------------------------------------------------------------------- the way of a request

type Entry = { live: Model; first: Model; now: object } // OpenCode's own; `live` gets changed
type Step = { hops: number; to?: Use; moved?: Entry; put?: object } // `to`: where the next try goes
type Purpose = "step" | "aux" // a title or summary cannot be rerouted: OpenCode starts none anew
type Origin = { session: string; agent: string; purpose: Purpose }
type Attempt = Target & Origin & { home: Target; entry: Entry; step: Step } // `home`: what it means
type Fetch = (signal?: AbortSignal) => Promise<Response>
type Send = (fetch: Fetch, stop?: AbortSignal) => Promise<Response>
type Report = (outcome: string, facts?: object) => Promise<Use | Wait | undefined>

const attempts = new Map<string, Send>() // by mark
let beneath: typeof fetch | undefined // the fetch that ours lies on

async function marked(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const request = input instanceof Request ? input : undefined
  const headers = new Headers(init?.headers ?? request?.headers)
  const send = attempts.get(headers.get(MARK) ?? "")
  if (!send) return beneath!(input, init)
  headers.delete(MARK)
  const stop = init?.signal ?? request?.signal ?? undefined
  return send((signal) => beneath!(input, { ...init, headers, signal }), stop)
}

/** Reroutes and reports the requests of one OpenCode instance, which is one project directory. */
function routerFor({ client }: PluginInput, daemon: ReturnType<typeof daemonFor>): Hooks {
  const entries = new Map<string, Entry>() // by the name that OpenCode knows them by
  const steps = new Map<string, Step>() // by session
  const answering = new Map<string, Target & { lease?: string }>() // by session
  const answered = new Map<string, Target>() // by message
  const told = new Map<string, string>() // the last word on each fact
  let models: Map<string, Record<string, unknown>> | undefined // by provider, without its keys
  let follows = true // OpenCode follows a changed entry

  function toast(message: string, variant: "info" | "warning", duration: number) {
    const body = { title: "rlmd", message, variant, duration }
    void quietly(() => client.tui.showToast({ body }))
  }

  /** One notice a fact: to the screen, or to stderr where there is none. */
  function tell(fact: string, word: string, message: string) {
    if (told.get(fact) === word) return
    remember(told, fact, word)
    if (!HEADLESS) toast(message, "warning", 6000)
    else if (daemon.settings.stderr) process.stderr.write(`rlmd: ${message}\n`)
  }

  async function find(target: Target): Promise<Model | undefined> {
    const read = models ? undefined : (await quietly(() => client.config.providers()))?.data
    if (read) models = new Map(read.providers.map((provider) => [provider.id, provider.models]))
    const model = models?.get(target.provider)?.[target.model] as Model | undefined
    if (!model) tell(nameOf(target), "missing", `OpenCode has no model ${nameOf(target)}.`)
    return model
  }

  function put(entry: Entry, model: Model) {
    for (const key of Object.keys(entry.live)) delete (entry.live as any)[key]
    Object.assign(entry.live, (entry.now = structuredClone(model)))
  }

  const movable = ({ purpose, step }: Attempt) => purpose === "step" && follows && step.hops < HOPS

  /** Makes OpenCode's next try go elsewhere: it looks the model up in its catalogue again. */
  async function move(attempt: Attempt, to: Use): Promise<boolean> {
    const { home, entry, step } = attempt
    if (!movable(attempt) || same(to, attempt)) return false
    const model = same(to, home) ? entry.first : await find(to)
    if (!model) return false
    put(entry, model)
    Object.assign(step, { hops: step.hops + 1, to, moved: entry, put: entry.now })
    tell(nameOf(home), nameOf(to), to.message)
    return true
  }

  /** A place that was reserved, and nothing was sent there. */
  function giveBack(session: string, { provider, model, lease }: Partial<Use> = {}) {
    const report = { provider, model, session, lease, outcome: "cancelled", retry: false }
    if (lease) void daemon.ask("report", report, "again")
  }

  /** What OpenCode gets instead of a failure, if the daemon knows better. */
  async function instead(attempt: Attempt, next?: Use | Wait): Promise<Response | undefined> {
    if (next?.type === "use") return (await move(attempt, next)) ? again(next.message) : undefined
    if (next?.type !== "wait") return
    const ms = next.retry_after_ms
    if (ms === null || ms > daemon.settings.wait_ms) return refusal(next.candidates)
    if (ms > 5000) tell("wait", "", next.message)
    return again(next.message, ms)
  }

  /** The reserved place, a response in its stead, or undefined: nothing is known, so go on. */
  async function choose(attempt: Attempt): Promise<Use | Response | "pass" | undefined> {
    const { home, session, agent, purpose, step } = attempt
    const { to } = step
    step.to = undefined
    if (to?.lease && same(to, attempt)) return to
    giveBack(session, to)
    const question = { ...home, session, agent, purpose }
    const fixed = !movable(attempt) // reserve then only what can be taken
    let answer = await daemon.ask("acquire", { ...question, dry_run: fixed })
    if (answer?.type === "pass") return "pass"
    if (answer?.type === "wait") return instead(attempt, answer)
    if (answer?.type !== "use") return
    if (!same(answer, attempt)) {
      if (await move(attempt, answer)) return again(answer.message)
      giveBack(session, answer)
      if (purpose === "aux" && SPENT.includes(answer.reason)) return inStead(400, answer.message)
      return
    }
    if (fixed) answer = await daemon.ask("acquire", question)
    return answer?.type === "use" ? answer : undefined
  }

  /** One request's reports: a first good byte perhaps, and exactly one end. */
  function reporter(attempt: Attempt, lease?: string): Report {
    const { provider, model, session, purpose, step } = attempt
    const common = { provider, model, session, lease, started_at: new Date().toISOString() }
    let ended = false
    return async (outcome, facts) => {
      if (ended) return
      ended = outcome !== "accepted"
      if (!ended) {
        step.hops = 0
        told.delete("wait")
        if (purpose === "step") remember(answering, session, { provider, model, lease })
        if (!lease) return // no probe to end
      }
      const report = { ...common, outcome, ...facts, retry: movable(attempt) }
      const reply = await daemon.ask("report", report, lease ? "again" : "once")
      return reply?.type === "recorded" ? reply.next : undefined
    }
  }

  async function send(attempt: Attempt, fetch: Fetch, stop?: AbortSignal): Promise<Response> {
    const place = await quietly(() => choose(attempt))
    if (place instanceof Response) return place
    if (place === "pass") return fetch(stop)
    const report = reporter(attempt, place?.lease)
    const cut = new AbortController()
    const signal = stop ? AbortSignal.any([stop, cut.signal]) : cut.signal
    const patience = place && daemon.settings.first_byte_ms
    const silence = `request timed out: nothing came in ${patience} ms`
    const late = () => cut.abort(new DOMException(silence, "TimeoutError"))
    const timer = patience ? setTimeout(late, patience) : undefined
    try {
      const response = await fetch(signal)
      const headers = [...response.headers].filter(([name]) => TELLING.test(name))
      const facts = { status: response.status, headers: Object.fromEntries(headers) }
      const rest = listen(response)
      const first: Heard = (await rest.next()).value
      const failed = first.error !== undefined
      const recorded = report(failed ? "error" : "accepted", { ...facts, body: first.error })
      const answer = failed && (await instead(attempt, await recorded))
      const relayed = () => streamOf(relay(attempt, first, rest, report, signal), cut)
      if (!answer) return new Response(relayed(), response)
      cut.abort()
      return answer
    } catch (error) {
      const next = await report(endOf(signal), { message: causeOf(error) })
      const answer = await instead(attempt, next)
      if (answer) return answer
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  /** The answer as it comes. Its end is reported, whichever it is. */
  async function* relay(
    attempt: Attempt,
    first: Heard,
    rest: AsyncGenerator<Heard>,
    report: Report,
    signal: AbortSignal,
  ) {
    try {
      yield* first.chunks
      for await (const { chunks, error } of rest) {
        const next = error === undefined ? undefined : await report("error", { body: error })
        if (next?.type === "use" && (await move(attempt, next)))
          throw new Error(`server error in mid-answer: ${next.message}`) // OpenCode tries again
        yield* chunks
      }
      void report("ok")
    } catch (error) {
      const next = await report(endOf(signal), { message: causeOf(error) })
      if (next?.type === "use") await move(attempt, next)
      throw error
    } finally {
      void report(endOf(signal), { message: causeOf(signal.reason) })
    }
  }

  return {
    config: async (config) => {
      const command = { template: "Say: rlmd is not active.", description: "All providers' limits" }
      if (!isShown()) (config.command ??= {})[COMMAND] ??= command
    },

    // A person's turn starts: on whom?
    "chat.message": async ({ sessionID: session, agent }, { message, parts }) => {
      if (parts.every((part) => part.type === "text" && part.ignored)) return // no model gets this
      const asked = { provider: message.model.providerID, model: message.model.modelID }
      const entry = entries.get(nameOf(asked))
      if (entry) put(entry, entry.first)
      giveBack(session, steps.get(session)?.to)
      steps.delete(session)
      const answer = await daemon.ask("acquire", { ...asked, session, agent, purpose: "turn" })
      if (answer?.type !== "use") return
      if (same(answer, asked)) told.delete(nameOf(asked))
      else if (await find(answer)) {
        const model = { providerID: answer.provider, modelID: answer.model }
        message.model = { ...message.model, ...model } // the old one may be an agent's for good
        tell(nameOf(asked), nameOf(answer), answer.message)
      }
    },

    // A request is being made: mark it, so that fetch knows whose it is.
    "chat.headers": async ({ sessionID: session, agent, model: live }, { headers }) => {
      const known = [...entries.values()].find((entry) => entry.live === live)
      const entry = known ?? { live, first: structuredClone(live), now: live }
      const home = { provider: entry.first.providerID, model: entry.first.id }
      entries.set(nameOf(home), entry)
      const purpose = agent === "title" || agent === "summary" ? "aux" : "step"
      const step = (purpose === "step" && steps.get(session)) || { hops: 0 }
      if (purpose === "step") remember(steps, session, step)
      const target = { provider: live.providerID, model: live.id }
      const { to, moved } = step
      if (to && moved && !same(to, target) && moved.now === step.put) {
        follows = false // nobody else has changed the entry, and yet the change had no effect
        put(moved, moved.first)
        tell("follows", "no", "This OpenCode does not follow a switch within a turn.")
      }
      const attempt: Attempt = { ...target, home, entry, session, agent, purpose, step }
      const mark = crypto.randomUUID()
      remember(attempts, mark, (fetch, stop) => send(attempt, fetch, stop))
      headers[MARK] = mark
    },

    // The tokens and the cost of an answer become known after its end.
    event: async ({ event }) => {
      const part = event.type === "message.part.updated" && event.properties.part
      const by = part && part.type === "step-finish" && answering.get(part.sessionID)
      if (!by) return
      remember(answered, part.messageID, by)
      const { cache, ...tokens } = part.tokens
      const cached = { cache_read: cache.read, cache_write: cache.write }
      const usage = { ...tokens, ...cached, cost: part.cost }
      void daemon.ask("usage", { ...by, session: part.sessionID, usage }, "once")
    },

    // A rerouted step is stored under its first provider, but its signatures are the second's.
    "experimental.chat.messages.transform": async (_, { messages }) => {
      for (const { info } of messages) {
        const by = info.role === "assistant" && answered.get(info.id)
        if (by) Object.assign(info, { providerID: by.provider, modelID: by.model })
      }
    },

    "command.execute.before": async ({ command, sessionID: id }) => {
      if (command !== COMMAND) return
      const reply = await daemon.ask("status", {})
      const text = reply?.type === "status" ? reply.text : ABSENT
      if (HEADLESS) {
        process.stdout.write(text.trimEnd() + "\n")
        setTimeout(() => void quietly(() => client.session.abort({ path: { id } })), 100)
      } else {
        toast(text, "info", 15_000)
        const parts = [{ type: "text" as const, text, ignored: true }]
        const busy = (await client.session.status()).data?.[id] // then it would join the turn
        if (!busy) await client.session.prompt({ path: { id }, body: { noReply: true, parts } })
      }
      throw ANSWERED
    },
  }
}

/** Thrown, it stops a command. OpenCode's server takes it for an empty response: no error. */
const ANSWERED = Object.assign(new Error("rlmd has answered"), {
  "~effect/http/HttpServerResponse": "~effect/http/HttpServerResponse",
  status: 204,
  headers: {},
  cookies: { cookies: {} },
  body: { _tag: "Empty" },
})

// --------------------------------------------------------------------------------- the plugin

// The newest instance serves its directory, in whatever other place this file may lie too.
const shared = globalThis as { [key: symbol]: Map<string, object> | undefined }
const serving = (shared[Symbol.for("rlmd.opencode")] ??= new Map())
let daemon: ReturnType<typeof daemonFor> | undefined
let users = 0

const server: Plugin = async (input) => {
  users += 1
  daemon ??= daemonFor(input.directory)
  if (!beneath) {
    beneath = globalThis.fetch
    globalThis.fetch = Object.assign(marked, beneath)
  }
  const hooks: Hooks = routerFor(input, daemon)
  serving.set(input.directory, hooks)
  const guarded = Object.entries(hooks).map(([name, act]) => [
    name,
    async (...args: unknown[]) => {
      if (serving.get(input.directory) !== hooks) return
      try {
        await act(...args)
      } catch (error) {
        if (error === ANSWERED) throw error
      }
    },
  ])
  const dispose = async () => {
    if (serving.get(input.directory) === hooks) serving.delete(input.directory)
    if ((users -= 1) > 0) return
    daemon?.close()
    daemon = undefined
    if (globalThis.fetch !== marked) return // another wrapper lies on ours: all goes through to it
    globalThis.fetch = beneath!
    beneath = undefined
  }
  return { ...Object.fromEntries(guarded), dispose }
}

export default { id: "rlmd", server }

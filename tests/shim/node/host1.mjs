// OpenCode 1.x as it was recorded: what the real 1.18.33 told its plugins in one turn with a title, a
// tool call and the answer after it. Where it sent a request, this sends one, with OpenCode's own
// retries; the model of each is looked up in its catalogue anew, as the real one does it.

import { setTimeout as pause } from "node:timers/promises"
import { clock, linesOf, reply, send, shim } from "./stage.mjs"

const RECORD = linesOf("opencode-1.18.33.jsonl")
const RETRIES = 5

/** An OpenCode 1.x with two providers, in a project of its own. */
export function hostOf(providers, directory = "/home/me/project") {
  const host = { toasts: [], waits: [], busy: 0, answered: async () => {} }
  const { model, provider } = RECORD.find(({ hook }) => hook === "chat.headers").input
  const offer = (id, name) => ({
    ...structuredClone(provider),
    id,
    models: { [name]: { ...structuredClone(model), providerID: id, id: name } },
  })
  const catalogue = { A: offer("A", "m1"), B: offer("B", "m2") }

  const client = {
    config: {
      providers: async () => ({ data: { providers: structuredClone(Object.values(catalogue)) } }),
    },
    tui: { showToast: async ({ body }) => void host.toasts.push(body.message) },
    session: { status: async () => ({ data: {} }), prompt: async () => {}, abort: async () => {} },
  }
  host.client = client
  let hooks
  const begun = []
  host.begin = async () => {
    hooks = await shim.server({ client, directory })
    begun.push(hooks)
    return hooks
  }
  host.end = async () => {
    for (const instance of begun.splice(0)) await instance.dispose()
  }
  /** Whether the shim has the daemon's ear by now. */
  host.hasStatus = async () => {
    const about = { command: "rate_limit_status", sessionID: "none" }
    await hooks["command.execute.before"](about).catch(() => {}) // it ends in a throw, by design
    return host.toasts.pop() === reply("status").text
  }
  const tell = async (name, input, output) => hooks[name]?.(input, output)
  host.tell = tell

  /** A request with its retries. Those of a title are the SDK's own: no hook hears of them. */
  async function persist(input, chosen, signal) {
    let headers, live
    for (let attempt = 1; ; attempt++) {
      if (attempt === 1 || input.agent !== "title") {
        const { models, ...about } = catalogue[chosen.providerID]
        live = models[chosen.modelID]
        headers = {}
        await tell(
          "chat.headers",
          { ...input, model: live, provider: { ...about, models } },
          { headers },
        )
      }
      if (host.busy) {
        await host.answered() // the daemon's word is there,
        clock.ms += host.busy // and OpenCode is still making the request that it has announced
      }
      const response = await send(globalThis.fetch, providers.url(live.providerID), headers, signal)
      const text = await response.text()
      if (response.ok) return { text }
      const wait = response.headers.get("retry-after-ms")
      if (response.status !== 429 || attempt > RETRIES)
        return { error: text, status: response.status }
      host.waits.push(Number(wait))
      const status = { type: "retry", attempt, message: text, next: Date.now() }
      await tell("event", {
        event: { type: "session.status", properties: { sessionID: input.sessionID, status } },
      })
      await pause(wait === null ? 0 : Math.min(Number(wait), 5))
    }
  }

  /** Plays the recorded turn in a session of this name. Returns what each of its requests got. */
  host.turn = async (session = "ses_1", { signal } = {}) => {
    const answers = []
    let chosen
    for (const line of RECORD) {
      const { hook, input, output } = JSON.parse(JSON.stringify(line).replaceAll("ses_1", session))
      if (hook === "chat.headers") {
        answers.push(await persist(input, chosen, signal))
        if (answers.at(-1).error && input.agent !== "title") break
      } else await tell(hook, input, output)
      if (hook === "chat.message") chosen = output.message.model
    }
    return answers
  }
  return host
}

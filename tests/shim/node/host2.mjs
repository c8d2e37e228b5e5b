// A stand-in for OpenCode 2.x. It holds what is published of its hooks, and nothing else: prompt,
// model.request, http.request, http.response, retry; switchModel, which lasts; synthetic; commands.

import { requestTo } from "./stage.mjs"

/** An OpenCode 2.x whose sessions start on this model. */
export function hostOf(providers, first = { providerID: "A", id: "m1" }) {
  const hooks = new Map()
  const models = new Map() // by session; a switch is for good
  const host = { said: [], commands: new Map(), waits: [], switches: [], disposed: 0 }
  const modelOf = (sessionID) => models.get(sessionID) ?? first
  const handle = (undo) => ({ dispose: async () => (host.disposed++, undo()) })

  async function tell(name, moment) {
    for (const act of hooks.get(name) ?? []) await act(moment)
    return moment
  }

  host.context = {
    session: {
      hook: async (name, act) => {
        hooks.set(name, [...(hooks.get(name) ?? []), act])
        return handle(() =>
          hooks.set(
            name,
            hooks.get(name).filter((one) => one !== act),
          ),
        )
      },
      switchModel: async ({ sessionID, model }) => {
        host.switches.push(model.providerID)
        models.set(sessionID, model)
      },
      synthetic: async ({ sessionID, text, resume }) => {
        if (resume !== false) throw new Error("this would ask a model")
        host.said.push({ sessionID, text })
      },
    },
    command: {
      transform: (change) => {
        change({ add: (command) => host.commands.set(command.name, command) })
        return handle(() => host.commands.clear())
      },
    },
  }

  host.choose = (sessionID, model) => models.set(sessionID, model)
  host.modelOf = modelOf

  /** One request: the bytes of its answer, or the failure that OpenCode makes of it. */
  async function ask(sessionID, model, kind, signal) {
    const about = { sessionID, agent: kind === "title" ? "title" : "build", kind, model }
    const request = requestTo(providers.url(model.providerID), signal)
    await tell("http.request", { ...about, request })
    let response
    try {
      response = await fetch(request)
    } catch (error) {
      return { error: { type: "network", message: `${error.cause?.code ?? error.message}` } }
    }
    response = (await tell("http.response", { ...about, request, response })).response
    let text
    try {
      text = await response.text()
    } catch (error) {
      return { error: { type: "network", message: error.message } }
    }
    const failed = /"type":"error"/.test(text) && {
      type: "provider",
      message: "the provider failed",
    }
    return response.ok && !failed
      ? { text }
      : { error: { ...failed, status: response.ok ? undefined : response.status, response } }
  }

  /** A request with its retries, as OpenCode makes them: one by itself unless a hook decides. */
  async function persist(sessionID, kind, signal) {
    for (let attempt = 1; ; attempt++) {
      const model = modelOf(sessionID)
      const agent = kind === "title" ? "title" : "build"
      if (kind !== "title") await tell("model.request", { sessionID, agent, model, attempt })
      const { text, error } = await ask(sessionID, model, kind, signal)
      if (!error) return { text, model }
      const own = attempt < 2 && !signal?.aborted ? { retry: true, delay: 0 } : { retry: false }
      const about = { sessionID, agent, model, error, attempt, decision: own }
      const { decision } = signal?.aborted ? about : await tell("retry", about)
      if (!decision.retry) return { error, model }
      host.waits.push(decision.delay)
    }
  }

  /** A person's turn: a prompt, perhaps a title, and as many steps as are asked for. */
  host.turn = async (sessionID, { steps = 1, title = false, signal } = {}) => {
    await tell("prompt", { sessionID, agent: "build", model: modelOf(sessionID) })
    const aside = title ? persist(sessionID, "title") : undefined
    let last
    for (let step = 0; step < steps && !last?.error; step++)
      last = await persist(sessionID, "primary", signal)
    await aside
    return last
  }
  host.tell = tell
  return host
}

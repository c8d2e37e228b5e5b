// The hooks that the shim registers with OpenCode 2.x, to call them one by one. What OpenCode itself does
// with them is tested with the real program, in tests/e2e.

import { shim } from "./stage.mjs"

export const modelOf = ({ provider, model }) => ({ providerID: provider, id: model })

/** Registers the shim. `tell` calls a hook, and gives what it made of the moment. */
export async function hooked(first) {
  const [acts, models, kept] = [new Map(), new Map(), new Map()]
  const events = []
  let wake = () => {}
  const told = { switches: [], disposed: 0 }
  const host = {
    location: { directory: "/project" },
    session: {
      hook: async (name, act) => {
        acts.set(name, act)
        return { dispose: async () => told.disposed++ }
      },
      get: async ({ sessionID }) => ({ model: models.get(sessionID) }),
      generate: async () => ({ text: "a summary" }),
      switchModel: async ({ sessionID, model }) => {
        told.switches.push(model.providerID)
        models.set(sessionID, model)
      },
    },
    model: { default: async () => ({ data: modelOf(first) }), list: async () => ({ data: [] }) },
    storage: {
      get: async (key) => kept.get(key),
      set: async (key, value) => void kept.set(key, value),
      remove: async (key) => void kept.delete(key),
    },
    event: {
      async *subscribe({ signal }) {
        while (!signal.aborted) {
          yield* events.splice(0)
          await new Promise((woken) => (wake = woken))
        }
      },
    },
  }
  told.host = host
  told.modelOf = (session) => models.get(session) ?? modelOf(first)
  told.choose = (session, model) => models.set(session, model)
  told.happens = (type, data) => {
    events.push({ type, data })
    wake()
  }
  told.tell = async (name, moment) => {
    await acts.get(name)(moment)
    return moment
  }
  told.leave = await shim.setup(host)
  return told
}

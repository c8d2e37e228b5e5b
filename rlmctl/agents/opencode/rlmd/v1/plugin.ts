// The hooks of OpenCode 1.x. Nothing here decides, and nothing throws into OpenCode.

import type { Hooks, Plugin } from "@opencode-ai/plugin"
import { note } from "../debug.ts"
import { ANSWERED } from "./internals.ts"
import { Project } from "./project.ts"
import { unwrapFetch, wrapFetch } from "./tagged-fetch.ts"

// OpenCode may load the shim from two places, or call `server` twice for one directory: what happens is
// taken on by whoever comes first, and the other one leaves it.
const shared = ((globalThis as Record<symbol, unknown>)[Symbol.for("rlmd.opencode")] ??= {
  taken: new WeakSet(),
}) as { taken: WeakSet<object> }
const projects = new Set<Project>()

function take(moment: object): boolean {
  const isNew = !shared.taken.has(moment)
  shared.taken.add(moment)
  return isNew
}

/** A hook that never throws, but for the throw that stops a command. */
function guarded<Given extends unknown[]>(name: string, act: (...given: Given) => unknown) {
  return async (...given: Given): Promise<void> => {
    try {
      await act(...given)
    } catch (error) {
      if (error === ANSWERED) throw error
      note(name, error)
    }
  }
}

function hooksOf(project: Project): Hooks {
  return {
    config: guarded("config", (config) => project.onConfig(config)),
    "chat.message": guarded("chat.message", async ({ sessionID, agent }, output) => {
      if (take(output)) await project.onTurn(sessionID, agent, output.message, output.parts)
    }),
    "experimental.chat.messages.transform": guarded("messages.transform", (_, output) => {
      if (take(output)) project.onStep(output.messages)
    }),
    "chat.headers": guarded("chat.headers", (input, output) => {
      const { sessionID, agent, model, provider } = input
      if (take(output)) project.onRequest(sessionID, agent, model, provider, output.headers)
    }),
    "command.execute.before": guarded("command.execute.before", async (input, output) => {
      if (take(output ?? input)) await project.onCommand(input.command, input.sessionID)
    }),
    event: guarded("event", ({ event }) => project.onEvent(event)),
  }
}

export const server: Plugin = async (input) => {
  const project = new Project(input)
  projects.add(project)
  wrapFetch()
  const dispose = async () => {
    project.close()
    projects.delete(project)
    if (projects.size === 0) unwrapFetch()
  }
  return { ...hooksOf(project), dispose }
}

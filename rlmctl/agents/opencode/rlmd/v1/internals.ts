// Every detail of OpenCode 1.x that is documented nowhere and that the shim relies on: one function a
// detail. Where one no longer holds, the debug log says which, and the shim does without it.

import type { PluginInput } from "@opencode-ai/plugin"
import type { AssistantMessage, Model } from "@opencode-ai/sdk"
import type { Target } from "../daemon/messages.ts"
import { note } from "../debug.ts"

const missed = new Set<string>()

/** Notes once a process that a detail does not hold in this OpenCode. */
function lost(detail: string): void {
  if (!missed.has(detail)) note(`this OpenCode differs: ${detail}`)
  missed.add(detail)
}

/** What a hook is told of an agent: its name, or up to 1.3.2 the agent itself. */
export const nameOf = (agent: unknown): string => {
  if (typeof agent === "string") return agent
  const name = (agent as { name?: unknown } | undefined)?.name
  return typeof name === "string" ? name : ""
}

export type Models = Record<string, Model>

/** The models that a provider has in OpenCode's catalogue, where `chat.headers` shows them. */
export function modelsOf(provider: unknown): Models | undefined {
  const models = (provider as { models?: unknown } | undefined)?.models
  return typeof models === "object" && models !== null ? (models as Models) : undefined
}

/** Has the catalogue hand out what `get` gives: OpenCode looks a model up for each step.
 *  The object must be the one that `chat.headers` was given. */
export function replaceInCatalogue(
  models: Models | undefined,
  live: Model,
  access: { get: () => Model; set: (model: Model) => void },
): void {
  if (models?.[live.id] !== live)
    return lost("chat.headers is given a copy of the catalogue's model")
  Object.defineProperty(models, live.id, { ...access, configurable: true, enumerable: true })
}

/** Makes an object hold what another one holds: OpenCode looks up provider, key and format of the
 *  very object again for each try of a step. */
export function overwrite(live: Model, model: Model): void {
  const copy = structuredClone(model) // first: what cannot be copied leaves the object as it is
  for (const key of Object.keys(live)) delete (live as Record<string, unknown>)[key]
  Object.assign(live, copy)
}

/** Stores an answer that OpenCode is writing under who gives it: `info` of `message.updated` is the
 *  very object that is stored. */
export function storeUnder(draft: AssistantMessage | undefined, { provider, model }: Target): void {
  if (draft) Object.assign(draft, { providerID: provider, modelID: model })
}

/** Tells a person's stop from a time-out. Both are aborts; OpenCode's and our own time-outs have these names. */
export function isPersonsStop({ aborted, reason }: AbortSignal): boolean {
  const name = (reason as { name?: unknown } | undefined)?.name
  return aborted && !/Timeout|Stream/.test(typeof name === "string" ? name : "")
}

/** Whether a session is at work: a message added then would join its turn. */
export async function isBusy(client: PluginInput["client"], session: string): Promise<boolean> {
  const { data } = await client.session.status()
  return data?.[session] !== undefined
}

// Thrown, it stops a command. OpenCode's server takes it for an empty response of Effect's: no error.
const KIND = "~effect/http/HttpServerResponse"
const EMPTY = { status: 204, headers: {}, cookies: { cookies: {} }, body: { _tag: "Empty" } }
export const ANSWERED = Object.assign(new Error("rlmd has answered"), { [KIND]: KIND, ...EMPTY })

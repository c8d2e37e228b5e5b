// What the shim uses of OpenCode 2.x, as types: no package publishes them. All of it was tried with 2.0.15.

import type { Target } from "../daemon/messages.ts"

/** How a session's model is named; `variant` says how hard it is to think. */
export type Model = { providerID: string; id: string; variant?: string }

type OfSession = { sessionID: string }

/** A person's turn starts. */
export type Prompt = OfSession & { prompt: { text: string } }

/** A request of a session: `primary` is a step of a turn. */
type OfRequest = OfSession & {
  agent: string
  kind: "primary" | "compaction" | "title" | "generate"
  model: Model
}
export type HttpRequest = OfRequest & { request: Request }
export type HttpResponse = OfRequest & { request: Request; response: Response }

/** A step or a compaction has failed: what does OpenCode do? It takes `error.message` for what a person sees. */
export type Retry = OfSession & {
  agent: string
  model: Model
  error: { type?: string; message?: string; status?: number }
  decision: { retry: false } | { retry: true; delay: number }
}

/** The messages that a model is about to get. */
export type Context = OfSession & { messages: { role: string; content: unknown }[] }

export type Hooks = {
  prompt: Prompt
  context: Context
  compaction: Context
  generate: Context
  "http.request": HttpRequest
  "http.response": HttpResponse
  retry: Retry
}

type Tokens = {
  input: number
  output: number
  reasoning: number
  cache: { read: number; write: number }
}
export type HostEvent =
  | { type: "session.step.started"; data: OfSession & { agent: string; model: Model } }
  | { type: "session.step.ended"; data: OfSession & { tokens: Tokens; cost: number } }
  | {
      type:
        "session.execution.succeeded" | "session.execution.failed" | "session.execution.interrupted"
      data: OfSession
    }

type Handle = { dispose(): Promise<void> }

export type Host = {
  /** The project: OpenCode calls `setup` for each. */
  location?: { directory?: string }
  session: {
    hook<Name extends keyof Hooks>(
      name: Name,
      act: (moment: Hooks[Name]) => Promise<void>,
    ): Promise<Handle>
    get(of: OfSession): Promise<{ model?: Model }>
    generate(of: OfSession & { prompt: string }): Promise<{ text: string }>
    /** Lasts beyond the turn and the process. */
    switchModel(to: OfSession & { model: Model }): Promise<unknown>
  }
  model: {
    default(): Promise<{ data?: Model }>
    list(): Promise<{ data: (Model & { variants?: { id: string }[] })[] }>
  }
  event: { subscribe(options?: { signal?: AbortSignal }): AsyncIterable<HostEvent> }
  /** The plugin's own, durable. */
  storage: {
    get(key: string): Promise<unknown>
    set(key: string, value: unknown): Promise<void>
    remove(key: string): Promise<void>
  }
}

export function placeOf({ providerID: provider, id: model }: Model): Target {
  if (typeof provider !== "string" || typeof model !== "string") throw new TypeError("an odd model")
  return { provider, model }
}

// The hooks of OpenCode 2.x. Nothing here decides, and nothing throws into OpenCode: there a throw ends
// the turn.

import { note } from "../debug.ts"
import type { Hooks, Host, HostEvent } from "./host.ts"
import { Project } from "./project.ts"

const AGAIN = 1000 // ms until OpenCode's events are listened to again, where they have ended

/** OpenCode calls this for each project. From 1.17.18 on OpenCode 1.x does so too, without session hooks. */
export async function setup(host: Partial<Host>): Promise<(() => Promise<void>) | undefined> {
  if (!host.session?.hook) return undefined
  return hooked(host as Host)
}

async function hooked(host: Host): Promise<() => Promise<void>> {
  const project = new Project(host)
  const stop = new AbortController()
  const handles = await Promise.all([
    on(host, "prompt", (moment) => project.onPrompt(moment)),
    on(host, "context", (moment) => project.onContext(moment)),
    on(host, "compaction", (moment) => project.onContext(moment)),
    on(host, "generate", (moment) => project.onContext(moment)),
    on(host, "http.request", (moment) => project.onRequest(moment)),
    on(host, "http.response", (moment) => project.onResponse(moment)),
    on(host, "retry", (moment) => project.onRetry(moment)),
  ])
  void listen(host, stop.signal, (event) => project.onEvent(event))
  return async () => {
    stop.abort()
    for (const handle of handles) await quietly("dispose", () => handle?.dispose())
    project.close()
  }
}

const on = <Name extends keyof Hooks>(
  host: Host,
  name: Name,
  act: (moment: Hooks[Name]) => unknown,
) =>
  quietly(name, () =>
    host.session.hook(name, async (moment) => {
      await quietly(name, () => act(moment))
    }),
  )

async function listen(
  { event }: Host,
  signal: AbortSignal,
  act: (event: HostEvent) => Promise<void>,
): Promise<void> {
  while (!signal.aborted) {
    await quietly("events", async () => {
      for await (const told of event.subscribe({ signal }))
        await quietly(told.type, () => act(told))
    })
    await new Promise((done) => setTimeout(done, AGAIN).unref())
  }
}

/** What comes of it; OpenCode goes on as it would without the shim where that fails. */
async function quietly<T>(where: string, act: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await act()
  } catch (error) {
    note(where, error)
    return undefined
  }
}

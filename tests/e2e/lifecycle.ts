// Starts and ends the shim in OpenCode's own runtime, beside another plugin's fetch. Prints what was seen.

const { default: plugin } = await import(process.argv[2]!)
const client = { tui: { showToast: async () => {} } }
const start = (directory: string) => plugin.server({ client, directory })
const seen: Record<string, unknown> = {}

const first = globalThis.fetch
const older = await start("/a")
const ours = globalThis.fetch
seen.wraps = ours !== first

const theirs = Object.assign((...args: Parameters<typeof fetch>) => ours(...args), first)
globalThis.fetch = theirs
const newer = await start("/a")
const other = await start("/b")
seen.wrapsOnce = globalThis.fetch === theirs

const marks = async (hooks: any) => {
  const output = { headers: {} }
  await hooks["chat.headers"](
    { sessionID: "s", agent: "build", model: { providerID: "A", id: "m" } },
    output,
  )
  return output.headers
}
seen.olderLeadsToo = Object.keys(await marks(older)).length === 1
seen.othersMark = Object.keys(await marks(other)).length === 1

const server = Bun.serve({
  port: 0,
  fetch: ({ headers }) => new Response(String([...headers.keys()])),
})
const url = `http://127.0.0.1:${server.port}`
const sent = async () => (await fetch(new Request(url, { headers: await marks(newer) }))).text()
seen.takesTheTagOff = !(await sent()).includes("x-amzn-trace-id")

await Promise.all([older, newer, other].map((hooks) => hooks.dispose()))
seen.leavesTheirs = globalThis.fetch === theirs
seen.passesOnAfterItsEnd = (await (await fetch(url)).text()).length > 0
await server.stop(true)

process.stdout.write(JSON.stringify(seen))

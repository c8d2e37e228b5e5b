// The body of a response: its beginning, read ahead, and the whole for OpenCode.

const SHORT = 64 * 1024 // bytes of an error that are read ahead
const SLOW = 2000 // ms: longer than that the rest of an error is not waited for

/** The same response with this body: its address and its kind are no part of what makes a new one. */
export function withBody(response: Response, body: ReadableStream<Uint8Array>): Response {
  const copy = new Response(body, response)
  for (const name of ["url", "redirected", "type"] as const)
    Object.defineProperty(copy, name, { value: response[name], configurable: true })
  return copy
}

/** The beginning of a body as text, and a response that has it all still before it. */
export async function peek(response: Response): Promise<{ text: string; response: Response }> {
  const { body, bodyUsed } = response
  if (!body || bodyUsed || body.locked) return { text: "", response }
  const source = body.getReader()
  const late = new Promise<"late">((done) => setTimeout(done, SLOW, "late").unref())
  const decoder = new TextDecoder()
  const ahead: Promise<ReadableStreamReadResult<Uint8Array>>[] = [] // what OpenCode gets first
  let [text, size] = ["", 0]
  while (size < SHORT) {
    const read = source.read()
    ahead.push(read)
    const next = await Promise.race([read, late]).catch(() => "broken" as const)
    if (next === "late" || next === "broken" || next.done) break
    text += decoder.decode(next.value.subarray(0, SHORT - size), { stream: true })
    size += next.value.length
  }
  const rest = new ReadableStream<Uint8Array>(
    {
      async pull(out) {
        const { done, value } = await (ahead.shift() ?? source.read())
        if (done) out.close()
        else out.enqueue(value)
      },
      cancel: (reason) => source.cancel(reason),
    },
    { highWaterMark: 0 },
  )
  return { text, response: withBody(response, rest) }
}

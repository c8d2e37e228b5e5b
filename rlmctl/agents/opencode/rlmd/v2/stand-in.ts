// What OpenCode 2.x gets in a provider's stead, on every wire.

/** A request to nobody: OpenCode makes it, and its answer is replaced. */
export const nowhere = (): Request => new Request("data:,")

/** The refusal of a request that was held back. */
export function refusal(message: string): Response {
  const error = {
    type: "rate_limit_error",
    code: "rate_limit_exceeded",
    status: "RESOURCE_EXHAUSTED",
    message,
  }
  return Response.json({ type: "error", error }, { status: 429 })
}

/** An answer of one text, as this address would stream it; undefined for a wire that is not known. */
export function answerOf(url: string, text: string): Response | undefined {
  const { pathname } = new URL(url)
  const wire = Object.keys(WIRES).find((end) => pathname.endsWith(end))
  if (!wire) return undefined
  const lines = WIRES[wire]!(text).map((event) => {
    const name = "type" in event ? `event: ${String(event.type)}\n` : ""
    return `${name}data: ${JSON.stringify(event)}\n\n`
  })
  const end = wire === CHAT ? "data: [DONE]\n\n" : ""
  return new Response(lines.join("") + end, { headers: { "content-type": "text/event-stream" } })
}

type Event = Record<string, unknown>
const CHAT = "/chat/completions"
const WIRES: Record<string, (text: string) => Event[]> = {
  "/messages": anthropic,
  [CHAT]: chat,
  "/responses": responses,
  ":streamGenerateContent": gemini,
}
const USAGE = { input_tokens: 0, output_tokens: 0 }

function anthropic(text: string): Event[] {
  const message = { id: "rlmd", type: "message", role: "assistant", model: "rlmd", content: [] }
  return [
    { type: "message_start", message: { ...message, usage: USAGE } },
    { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
    { type: "content_block_delta", index: 0, delta: { type: "text_delta", text } },
    { type: "content_block_stop", index: 0 },
    {
      type: "message_delta",
      delta: { stop_reason: "end_turn", stop_sequence: null },
      usage: USAGE,
    },
    { type: "message_stop" },
  ]
}

function chat(text: string): Event[] {
  const chunk = { id: "rlmd", object: "chat.completion.chunk", created: 0, model: "rlmd" }
  const said = { index: 0, delta: { role: "assistant", content: text }, finish_reason: null }
  return [
    { ...chunk, choices: [said] },
    { ...chunk, choices: [{ index: 0, delta: {}, finish_reason: "stop" }] },
  ]
}

function responses(text: string): Event[] {
  const response = { id: "rlmd", object: "response", created_at: 0, model: "rlmd", output: [] }
  const item = {
    type: "message",
    id: "rlmd",
    role: "assistant",
    status: "in_progress",
    content: [],
  }
  const at = { item_id: "rlmd", output_index: 0, content_index: 0 }
  const content = [{ type: "output_text", text, annotations: [] }]
  const usage = { ...USAGE, total_tokens: 0 }
  const events: Event[] = [
    { type: "response.created", response: { ...response, status: "in_progress", usage: null } },
    { type: "response.output_item.added", output_index: 0, item },
    { type: "response.output_text.delta", ...at, delta: text },
    {
      type: "response.output_item.done",
      output_index: 0,
      item: { ...item, status: "completed", content },
    },
    { type: "response.completed", response: { ...response, status: "completed", usage } },
  ]
  return events.map((event, at) => ({ ...event, sequence_number: at }))
}

function gemini(text: string): Event[] {
  const content = { role: "model", parts: [{ text }] }
  return [{ candidates: [{ content, finishReason: "STOP", index: 0 }] }]
}

// Reads answers of providers, one JSON object a line, from stdin, and has each go through the shim's own
// reading. Writes what would be told of each.

import { readFileSync } from "node:fs"

const at = (name) => import(new URL(`rlmd/answers/${name}.js`, process.env.SHIM))
const { factsOf, wordsOf } = await at("errors")
const { follow, isFollowed } = await at("follow")
const { peek } = await at("body")
const { Redaction } = await at("redaction")

const redaction = new Redaction({
  headers: new Headers({ authorization: "Bearer sk-planted-0123456789" }),
  url: "https://provider.example/v1/messages",
  body: JSON.stringify({ model: "m", messages: [{ role: "user", content: "Tidy up, please." }] }),
})

async function told({ status, headers, body, message = "" }) {
  const words = message && wordsOf(message, redaction)
  if (!status)
    return { ...factsOf({ headers: new Headers(headers) }, redaction, body), message: words }
  const response = new Response(body, { status, headers })
  if (!response.ok) {
    const { text } = await peek(response)
    return { ...factsOf(response, redaction, text), message: words }
  }
  const facts = { ...factsOf(response, redaction), body: "", message: words }
  if (!isFollowed(response)) return facts
  const failed = async (found) => void (facts.body ||= found)
  await follow(response, redaction, { failed, broke: failed, ended() {}, left() {} }).text()
  return facts
}

for (const line of readFileSync(0, "utf8").trim().split("\n"))
  console.log(JSON.stringify(await told(JSON.parse(line))))

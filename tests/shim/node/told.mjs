// Reads recorded errors, one JSON object a line, from stdin; writes what the shim would tell of each.

import { readFileSync } from "node:fs"

const at = (name) => import(new URL(`rlmd/answers/${name}.js`, process.env.SHIM))
const [{ factsOf, wordsOf }, { follow, isFollowed }, { peek }, { Redaction }] = await Promise.all(
  ["errors", "follow", "body", "redaction"].map(at),
)

const BODY = JSON.stringify({
  model: "m",
  messages: [{ role: "user", content: "Tidy up, please." }],
})

async function told({ status, headers, body, message = "" }) {
  const redaction = new Redaction({
    headers: new Headers({ authorization: "Bearer 0123456789" }),
    body: BODY,
  })
  const said = message && wordsOf(message, redaction)
  if (!status)
    return {
      status,
      headers: factsOf({ headers: new Headers(headers) }, redaction, body).headers,
      body: factsOf({ headers: new Headers() }, redaction, body).body,
      message: said,
    }
  const response = new Response([204, 304].includes(status) ? null : body, { status, headers })
  if (!response.ok) {
    const { text } = await peek(response)
    return { ...factsOf(response, redaction, text), message: said }
  }
  let found
  if (isFollowed(response)) {
    const copy = follow(response, redaction, {
      failed: async (error) => void (found ??= error),
      broke: async () => {},
      ended() {},
      left() {},
    })
    await copy.text()
  }
  return { ...factsOf(response, redaction), body: found ?? "", message: said }
}

const lines = readFileSync(0, "utf8").trim().split("\n")
for (const line of lines) console.log(JSON.stringify(await told(JSON.parse(line))))

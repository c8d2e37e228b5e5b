// The life of a request on OpenCode 1.x: each cell of its table, and each place that the table leaves out.

import assert from "node:assert/strict"
import { test } from "node:test"
import { use } from "./stage.mjs"

const { TABLE } = await import(new URL("./rlmd/v1/table.js", process.env.SHIM))
const { Attempt } = await import(new URL("./rlmd/v1/attempt.js", process.env.SHIM))

const HAPPENINGS = new Set(Object.values(TABLE).flatMap((row) => Object.keys(row)))
/** What leads a request into each state. */
const WAYS = {
  announced: [],
  deciding: ["fetch"],
  sent: ["fetch", "goes"],
  answering: ["fetch", "goes", "begun"],
  ended: ["fetch", "goes", "finished"],
}
/** What the daemon hears of each action. */
const HEARD = {
  nothing: [],
  begin: [],
  giveBack: ["unsent"],
  reportAccepted: ["accepted"],
  reportOk: ["ok"],
  reportError: ["error"],
  reportCancelled: ["cancelled"],
  reportUsage: ["usage"],
}

/** A request in this state, and what the daemon hears of it from then on. */
async function requestThatIs(state) {
  const heard = []
  const place = { provider: "A", model: "m1" }
  const daemon = {
    async ask(op, { outcome = op, lease }) {
      if (op === "acquire") return use(place, { lease: "lease 1" })
      heard.push([outcome, lease])
    },
    giveBack: (lease) => heard.push(["unsent", lease]),
  }
  const live = { providerID: "A", id: "m1" }
  const session = { id: "s", aside: new Set(), history: [] }
  const attempt = new Attempt({ daemon }, session, "build", live, { first: live })
  for (const happening of WAYS[state]) {
    await attempt.on(happening)
    if (happening === "fetch") await attempt.word()
  }
  heard.length = 0
  return { attempt, heard }
}

test("there is a way into each state", async () => {
  assert.deepEqual(Object.keys(WAYS), Object.keys(TABLE))
  for (const state of Object.keys(TABLE))
    assert.equal((await requestThatIs(state)).attempt.state, state)
})

for (const [state, row] of Object.entries(TABLE))
  for (const happening of HAPPENINGS) {
    const cell = row[happening]
    const [next, action] = cell ?? [state, "nothing"]
    test(`${state}, ${happening}: ${cell ? `${next}, ${action}` : "changes nothing"}`, async () => {
      const { attempt, heard } = await requestThatIs(state)
      await attempt.on(happening)

      assert.equal(attempt.state, next)
      assert.deepEqual(
        heard,
        HEARD[action].map((word) => [word, "lease 1"]),
      )
    })
  }

test("of a request that has ended, whatever follows, no second outcome is told", async () => {
  for (const first of HAPPENINGS)
    for (const second of HAPPENINGS) {
      const { attempt, heard } = await requestThatIs("sent")
      await attempt.on(first)
      await attempt.on(second)
      const outcomes = heard.filter(([word]) => !["accepted", "usage"].includes(word))
      assert.ok(outcomes.length <= 1, `${first}, ${second}: ${outcomes}`)
    }
})

// Plays turns of an OpenCode 2.x beside the real daemon, and prints what came of them.

import { hostOf } from "./host2.mjs"
import { providersOf, shim } from "./stage.mjs"

const { first, queues, turns } = JSON.parse(process.argv[2])
const providers = await providersOf(queues)
const host = hostOf(providers, first)
const leave = await shim.setup(host.context)
const texts = []
for (const turn of turns) texts.push((await host.turn(...turn)).text ?? null)
const { waits, said, switches } = host
process.stdout.write(JSON.stringify({ texts, asked: providers.asked(), waits, said, switches }))
await new Promise((reported) => setTimeout(reported, 100)) // the last report is on its way
await leave()
await providers.end()

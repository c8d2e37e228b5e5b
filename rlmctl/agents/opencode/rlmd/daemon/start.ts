// Has the daemon started, once a process, where that is wanted: `rlmctl` knows whether it is.

import { spawn } from "node:child_process"

let asked = false

export function start(socket: string) {
  if (asked) return
  asked = true
  const words = ["-P", "-m", "rlmctl", "start", "--if-wanted"]
  const env = { ...process.env, RLMD_SOCKET: socket }
  const child = spawn("@PYTHON@", words, { detached: true, stdio: "ignore", env })
  child.on("error", () => {}).unref() // then there is no rlmctl either
}

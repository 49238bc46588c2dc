// Runs SQL in a data directory with an earlier PGlite, as its own API does it:
//
//   node older.mjs MODULES NAME DATA SQL [--killed]
//
// Prints the rows of the last statement as JSON. With --killed it ends as if it was killed, and the data directory stays as it was then.

import path from 'node:path'
import process from 'node:process'
import { pathToFileURL } from 'node:url'

const [modules, name, data, sql, killed] = process.argv.slice(2)
const { PGlite } = await import(pathToFileURL(path.join(modules, name, 'dist', 'index.js')))
const db = await PGlite.create({ dataDir: data, initDbStartParams: ['--wal-segsize=1'] })
const results = await db.exec(sql)
console.log(JSON.stringify(results.at(-1).rows))
if (killed) process.kill(process.pid, 'SIGKILL')
await db.close()

// Records what Node does with the files of a data directory, and what it sends to clients: `database/disks.py` reads it.
//
//   node --import 'file:///…/recorder.mjs?to=FILE' … --data DIR
//
// One line of JSON for each. A change is noted once it is made, an fsync (or fdatasync) when it begins and when it has ended, and what is
// sent before it is. Nothing is done otherwise than without it.

import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import process from 'node:process'

const MARK = /mark-\d+-\d+;/g
const original = { ...fs }
const to = original.openSync(new URL(import.meta.url).searchParams.get('to'), 'a')
const data = original.realpathSync(process.argv[process.argv.indexOf('--data') + 1])
const opened = new Set() // the descriptors of files in the data directory
let calls = 0

const note = (kind, event) => original.writeSync(to, `${JSON.stringify({ kind, ...event })}\n`)

/** Its path in the data directory; null: it is elsewhere. */
function inside(name) {
  const found = path.relative(data, path.resolve(String(name)))
  return found === '..' || found.startsWith(`..${path.sep}`) || path.isAbsolute(found) ? null : found
}

const isEmptied = (flags) => (typeof flags === 'number' ? (flags & fs.constants.O_TRUNC) !== 0 : String(flags).startsWith('w'))

fs.openSync = (name, flags, ...rest) => {
  const isNew = !original.existsSync(name)
  const descriptor = original.openSync(name, flags, ...rest)
  const file = inside(name)
  opened.delete(descriptor)
  if (file === null) return descriptor
  opened.add(descriptor)
  note('open', { descriptor, name: file, is_new: isNew })
  if (isEmptied(flags) && !isNew) note('cut', { descriptor, place: 0 })
  return descriptor
}

fs.writeSync = (descriptor, buffer, offset, length, position) => {
  const done = original.writeSync(descriptor, buffer, offset, length, position)
  if (!opened.has(descriptor)) return done
  if (typeof position !== 'number') throw new Error('a write without a position cannot be recorded')
  const data = Buffer.from(buffer.buffer, buffer.byteOffset + offset, done).toString('base64')
  note('write', { descriptor, place: position, data })
  return done
}

fs.ftruncateSync = (descriptor, size = 0) => {
  original.ftruncateSync(descriptor, size)
  if (opened.has(descriptor)) note('cut', { descriptor, place: size })
}

fs.truncateSync = (name, size = 0) => {
  const descriptor = fs.openSync(name, 'r+')
  fs.ftruncateSync(descriptor, size)
  original.closeSync(descriptor)
}

fs.writeFileSync = (name, content, ...rest) => {
  if (inside(name) === null) return original.writeFileSync(name, content, ...rest)
  const descriptor = fs.openSync(name, 'w', rest[0]?.mode)
  const bytes = Buffer.from(content)
  fs.writeSync(descriptor, bytes, 0, bytes.length, 0)
  original.closeSync(descriptor)
}

for (const [name, kind] of Object.entries({ mkdirSync: 'mkdir', rmdirSync: 'remove', unlinkSync: 'remove' })) {
  fs[name] = (place, ...rest) => {
    const isThere = original.existsSync(place)
    original[name](place, ...rest)
    if (inside(place) !== null && isThere === (kind === 'remove')) note(kind, { name: inside(place) })
  }
}

fs.rmSync = (place, ...rest) => {
  if (inside(place) === null) return original.rmSync(place, ...rest)
  if (original.existsSync(place)) fs.unlinkSync(place)
}

fs.renameSync = (from, target) => {
  original.renameSync(from, target)
  if (inside(from) !== null) note('rename', { name: inside(from), new_name: inside(target) })
}

fs.symlinkSync = () => {
  throw new Error('a link cannot be recorded')
}

for (const name of ['fdatasyncSync', 'fsyncSync']) {
  fs[name] = (descriptor) => {
    const call = (calls += 1)
    if (opened.has(descriptor)) note('sync', { descriptor, call })
    original[name](descriptor)
    if (opened.has(descriptor)) note('synced', { call })
  }
}

fs.fdatasync = (descriptor, done) => {
  const call = (calls += 1)
  note('sync', { descriptor, call })
  original.fdatasync(descriptor, (error) => {
    if (error === null) note('synced', { call })
    done(error)
  })
}

for (const name of ['write', 'end']) {
  const send = net.Socket.prototype[name]
  net.Socket.prototype[name] = function (bytes, ...rest) {
    const marks = Buffer.isBuffer(bytes) ? (bytes.toString('latin1').match(MARK) ?? []) : []
    if (marks.length > 0) note('sent', { marks })
    return send.call(this, bytes, ...rest)
  }
}

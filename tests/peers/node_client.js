// node-postgres through the gateway: parametrised and named queries, pipelined ones, cursors, streams, COPY, notifications.
// Where to is said by libpq's environment variables. Prints "ok" when all of it held.

const assert = require('node:assert');
const { pipeline } = require('node:stream/promises');
const { Readable } = require('node:stream');
const { Client, Pool } = require('pg');
const Cursor = require('pg-cursor');
const QueryStream = require('pg-query-stream');
const { from: copyFrom, to: copyTo } = require('pg-copy-streams');

async function typedValues(client) {
  const values = [7, "ü ' \\", Buffer.from([0, 255]), true, null, [1, 2, 3], { a: [1] }];
  const { rows } = await client.query({
    text: 'SELECT $1::int, $2::text, $3::bytea, $4::bool, $5::text, $6::int[], $7::jsonb', values, rowMode: 'array',
  });
  assert.deepStrictEqual(rows[0], values);
  for (let n = 0; n < 20; n++) {
    const named = await client.query({ name: 'twice', text: 'SELECT $1::int * 2 AS n', values: [n] });
    assert.strictEqual(named.rows[0].n, n * 2);
  }
  const several = await client.query('SELECT 1 AS a; SELECT 2 AS a; SELECT 3 AS a');
  assert.deepStrictEqual(several.map((result) => result.rows[0].a), [1, 2, 3]);
}

async function manyAtOnce(client) {
  const numbers = await Promise.all(
    Array.from({ length: 500 }, (_, n) => client.query('SELECT $1::int AS n, repeat($2, 100) AS x', [n, 'x'])));
  assert.deepStrictEqual(numbers.map(({ rows }) => rows[0].n), Array.from({ length: 500 }, (_, n) => n));
  await assert.rejects(client.query('SELECT 1/$1::int', [0]), { code: '22012' });
  assert.strictEqual((await client.query('SELECT 5 AS n')).rows[0].n, 5);
}

async function cursors(client) {
  const cursor = client.query(new Cursor('SELECT generate_series(1, $1::int) AS n', [1000]));
  let read = 0;
  for (let rows = await cursor.read(64); rows.length > 0; rows = await cursor.read(64)) read += rows.length;
  await cursor.close();
  assert.strictEqual(read, 1000);
  // Closed half way: the portal is dropped while it still has rows.
  const half = client.query(new Cursor('SELECT generate_series(1, 1000000)'));
  assert.strictEqual((await half.read(10)).length, 10);
  await half.close();
  let sum = 0;
  for await (const row of client.query(new QueryStream('SELECT generate_series(1, 5000) AS n', [], { batchSize: 77 }))) sum += row.n;
  assert.strictEqual(sum, 5000 * 5001 / 2);
}

async function copies(client) {
  await client.query('CREATE TEMP TABLE copied (id int, name text)');
  const lines = Array.from({ length: 20000 }, (_, n) => `${n}\tname ${n}\n`);
  await pipeline(Readable.from(lines), client.query(copyFrom('COPY copied FROM STDIN')));
  const parts = [];
  for await (const part of client.query(copyTo('COPY (SELECT * FROM copied ORDER BY id) TO STDOUT'))) parts.push(part);
  assert.strictEqual(Buffer.concat(parts).toString(), lines.join(''));
}

async function notifications(client) {
  await client.query('LISTEN "News"');
  const heard = new Promise((resolve) => client.once('notification', resolve));
  const other = new Client();
  await other.connect();
  await other.query('NOTIFY "News", \'one\'');
  await other.end();
  assert.strictEqual((await heard).payload, 'one');
  const notice = new Promise((resolve) => client.once('notice', resolve));
  await client.query("DO $$ BEGIN RAISE NOTICE 'mind the gap'; END $$");
  assert.strictEqual((await notice).message, 'mind the gap');
}

async function pools() {
  const pool = new Pool({ max: 8 });
  const numbers = await Promise.all(Array.from({ length: 100 }, (_, n) => pool.query('SELECT $1::int AS n', [n])));
  assert.strictEqual(numbers.reduce((sum, { rows }) => sum + rows[0].n, 0), 4950);
  await pool.end();
  const timed = new Client({ statement_timeout: 200, application_name: 'node test' });
  await timed.connect();
  await assert.rejects(timed.query('SELECT pg_sleep(100)'), { code: '57014' });
  assert.strictEqual((await timed.query('SHOW application_name')).rows[0].application_name, 'node test');
  await timed.end();
}

async function main() {
  const client = new Client();
  await client.connect();
  for (const story of [typedValues, manyAtOnce, cursors, copies, notifications]) await story(client);
  await client.end();
  await pools();
  console.log('ok');
}

main().catch((error) => { console.error(error); process.exit(1); });

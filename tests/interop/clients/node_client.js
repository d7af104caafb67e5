/*
 * A tour of node-zookeeper-client.
 *
 *   node node_client.js HOST:PORT PROXY:PORT
 *
 * Everything is asserted here; each part that went well prints one line, the first failure ends the program. When it
 * wants something done by the test, it prints a line starting with '@' and waits for a line on its input.
 */
'use strict';

const assert = require('assert');
const readline = require('readline');
const { promisify } = require('util');
const zookeeper = require('node-zookeeper-client');

const { ACL, CreateMode, Event, Exception, Id, Permission, State } = zookeeper;
const [direct, proxy] = process.argv.slice(2);
const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const clients = [];

async function ask(wish) {
    console.log('@' + wish);
    await answers.next();
}

function happened(client, name) {
    return new Promise((resolve) => client.once(name, resolve));
}

/* A connected client, its methods returning promises. */
async function join(hosts, options) {
    const raw = zookeeper.createClient(hosts, { sessionTimeout: 10000, spinDelay: 50, ...options });
    const client = { raw };
    clients.push(raw);
    for (const name of ['create', 'remove', 'setData', 'setACL', 'getACL', 'mkdirp'])
        client[name] = promisify(raw[name]).bind(raw);
    // These answer with two values after the error, and take a watcher that may be left out.
    for (const name of ['getData', 'getChildren', 'exists'])
        client[name] = (path, watcher) => new Promise((resolve, reject) => {
            const done = (error, ...values) => (error ? reject(error) : resolve(values));
            if (watcher) raw[name](path, watcher, done);
            else raw[name](path, done);
        });
    raw.connect();
    await happened(raw, 'connected');
    return client;
}

function watch() {
    let tell;
    const told = new Promise((resolve) => { tell = resolve; });
    return { watcher: (event) => tell(event), told };
}

function refused(promise, code) {
    return assert.rejects(promise, (error) => {
        assert.strictEqual(error.getCode(), Exception[code], `${error} is not ${code}`);
        return true;
    });
}

async function nodes(client) {
    assert.strictEqual(await client.create('/js', Buffer.from('one')), '/js');
    await refused(client.create('/js'), 'NODE_EXISTS');
    await refused(client.create('/none/child'), 'NO_NODE');
    let [data, stat] = await client.getData('/js');
    assert.strictEqual(data.toString(), 'one');
    assert.strictEqual(stat.version, 0);
    assert.deepStrictEqual(stat.czxid, stat.mzxid);
    stat = await client.setData('/js', Buffer.from('three'), 0);
    assert.deepStrictEqual([stat.version, stat.dataLength], [1, 5]);
    await refused(client.setData('/js', Buffer.from('x'), 0), 'BAD_VERSION');
    const drawn = await Promise.all(
        Array.from({ length: 20 }, () => client.create('/js/s-', CreateMode.PERSISTENT_SEQUENTIAL)));
    assert.deepStrictEqual(drawn, drawn.map((_, i) => '/js/s-' + String(i).padStart(10, '0')));
    const [children, parent] = await client.getChildren('/js');
    assert.strictEqual(children.length, 20);
    assert.deepStrictEqual([parent.numChildren, parent.cversion], [20, 20]);
    await refused(client.remove('/js'), 'NOT_EMPTY');
    await client.mkdirp('/js/a/b/c', Buffer.from('deep'));
    assert.deepStrictEqual((await client.getChildren('/js/a/b'))[0], ['c']);
    for (const path of ['/js/a/b/c', '/js/a/b', '/js/a', ...drawn, '/js']) await client.remove(path, -1);
    assert.deepStrictEqual(await client.exists('/js'), [null]);
    await client.create('/large', Buffer.alloc(900000, 'z'));
    [data] = await client.getData('/large');
    assert.strictEqual(data.length, 900000);
    await client.remove('/large');
}

async function transactions(client) {
    const commit = (transaction) => new Promise((resolve) => {
        transaction.commit((error, results) => resolve([error, results]));
    });
    let [error, results] = await commit(client.raw.transaction()
        .create('/tx', Buffer.from('a'))
        .create('/tx/s-', CreateMode.PERSISTENT_SEQUENTIAL)
        .setData('/tx', Buffer.from('bb'), 0)
        .check('/tx', 1)
        .remove('/tx/s-0000000000'));
    assert.ifError(error);
    assert.strictEqual(results.length, 5);
    assert.deepStrictEqual(results.slice(0, 2).map((r) => r.path), ['/tx', '/tx/s-0000000000']);
    assert.strictEqual(results[2].stat.version, 1);
    [error, results] = await commit(client.raw.transaction()
        .setData('/tx', Buffer.from('undone'))
        .check('/tx', 99)
        .remove('/tx'));
    assert.strictEqual(error.getCode(), Exception.BAD_VERSION);
    assert.deepStrictEqual(results.map((r) => r.err), [0, Exception.BAD_VERSION, Exception.RUNTIME_INCONSISTENCY]);
    assert.strictEqual((await client.getData('/tx'))[0].toString(), 'bb');
    await client.remove('/tx');
}

async function watches(client, actor) {
    await actor.create('/w');
    const data = watch(), children = watch(), born = watch(), gone = watch();
    await client.getData('/w', data.watcher);
    await client.getChildren('/w', children.watcher);
    await client.exists('/later', born.watcher);
    await actor.setData('/w', Buffer.from('1'));
    await actor.create('/w/child');
    await actor.create('/later');
    assert.strictEqual((await data.told).getType(), Event.NODE_DATA_CHANGED);
    assert.strictEqual((await children.told).getType(), Event.NODE_CHILDREN_CHANGED);
    assert.strictEqual((await born.told).getType(), Event.NODE_CREATED);
    await client.exists('/later', gone.watcher);
    await actor.remove('/later');
    assert.strictEqual((await gone.told).getPath(), '/later');
}

async function missed(actor) {
    const client = await join(proxy);
    const session = client.raw.getSessionId().toString('hex');
    await client.create('/cut-e', CreateMode.EPHEMERAL);
    const data = watch(), born = watch();
    await client.getData('/w', data.watcher);
    await client.exists('/later', born.watcher);
    const away = happened(client.raw, 'disconnected');
    await ask('cut');
    await away;
    await actor.setData('/w', Buffer.from('2'));
    await actor.create('/later');
    const back = happened(client.raw, 'connected');
    await ask('heal');
    await back;
    assert.strictEqual((await data.told).getType(), Event.NODE_DATA_CHANGED);
    assert.strictEqual((await born.told).getType(), Event.NODE_CREATED);
    assert.strictEqual(client.raw.getSessionId().toString('hex'), session);
    const [stat] = await actor.exists('/cut-e');
    assert.strictEqual(stat.ephemeralOwner.toString('hex'), session);
    const gone = watch();
    await actor.exists('/cut-e', gone.watcher);
    client.raw.close();
    assert.strictEqual((await gone.told).getType(), Event.NODE_DELETED);
}

async function access(client, stranger) {
    client.raw.addAuthInfo('digest', Buffer.from('ann:secret'));
    await client.create('/mine', [new ACL(Permission.ALL, new Id('auth', ''))]);
    await refused(stranger.getData('/mine'), 'NO_AUTH');
    const acls = await client.getACL('/mine');
    assert.strictEqual(acls.length, 1);
    assert.deepStrictEqual([acls[0].permission, acls[0].id.scheme, acls[0].id.id],
        [31, 'digest', 'ann:7RJfAeIvrl4zdj6sS2fXrQHDvHM=']);
    await client.setACL('/mine', [new ACL(Permission.READ, new Id('world', 'anyone'))], 0);
    assert.strictEqual((await stranger.getData('/mine')).length, 2);
    await refused(stranger.setData('/mine', Buffer.from('x')), 'NO_AUTH');
}

async function main() {
    const client = await join(direct);
    const actor = await join(direct);
    assert.strictEqual(client.raw.getState(), State.SYNC_CONNECTED);
    assert.strictEqual(client.raw.getSessionTimeout(), 10000);
    for (const [name, part] of Object.entries({ nodes, transactions, watches, missed: () => missed(actor), access })) {
        await part(client, actor);
        console.log(name);
    }
    for (const raw of clients) raw.close();
    process.exit(0);
}

process.on('unhandledRejection', (error) => { console.log(error.stack || error); process.exit(1); });
main();

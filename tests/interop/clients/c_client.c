/*
 * A tour of ZooKeeper's C client: every call of its synchronous API and the asynchronous ones in one pipeline.
 *
 *   c_client tour HOST:PORT PROXY:PORT     all calls; watches over a cut connection (the proxy's)
 *   c_client leave HOST:PORT               open a session with an ephemeral node, print its id, vanish
 *   c_client resume HOST:PORT ID PASSWORD  take that session up again; PASSWORD in hex
 *
 * Every answer is printed, one line each, without what differs from run to run; a test compares the lines. When the
 * program wants something done by the test, it prints a line starting with '@' and waits for a line on its input.
 */
#define THREADED
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zookeeper/zookeeper.h>

#define PATIENCE 20

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int connected, lost, watched, completed;
static char events[8192];

static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

static void ask(const char *wish) {
    char line[64];
    say("@%s", wish);
    if (!fgets(line, sizeof line, stdin)) exit(9);
}

/* Wait until *value is at least `least`; a client that waits in vain ends. */
static void until(int *value, int least, const char *what) {
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += PATIENCE;
    pthread_mutex_lock(&mutex);
    while (*value < least)
        if (pthread_cond_timedwait(&changed, &mutex, &limit)) {
            say("waited in vain for %s (%d of %d) events:%s", what, *value, least, events);
            exit(8);
        }
    pthread_mutex_unlock(&mutex);
}

static void count(int *value) {
    pthread_mutex_lock(&mutex);
    ++*value;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

static void on_session(zhandle_t *zh, int type, int state, const char *path, void *context) {
    (void)zh, (void)path, (void)context;
    if (type != ZOO_SESSION_EVENT) return;
    if (state == ZOO_CONNECTED_STATE) count(&connected);
    if (state == ZOO_EXPIRED_SESSION_STATE) count(&lost);
}

static void on_event(zhandle_t *zh, int type, int state, const char *path, void *context) {
    (void)zh, (void)state;
    if (type == ZOO_SESSION_EVENT) return;
    const char *name = type == ZOO_CREATED_EVENT   ? "created"
                       : type == ZOO_DELETED_EVENT ? "deleted"
                       : type == ZOO_CHANGED_EVENT ? "changed"
                       : type == ZOO_CHILD_EVENT   ? "child"
                                                   : "other";
    pthread_mutex_lock(&mutex);
    size_t used = strlen(events);
    snprintf(events + used, sizeof events - used, " %s:%s:%s", (char *)context, name, path);
    pthread_mutex_unlock(&mutex);
    count(&watched);
}

static void show_stat(const char *what, int rc, const struct Stat *s, const zhandle_t *zh) {
    if (rc) {
        say("%s %s", what, zerror(rc));
        return;
    }
    say("%s ok version=%d cversion=%d aversion=%d owner=%s length=%d children=%d changed=%d", what, s->version,
        s->cversion, s->aversion,
        !s->ephemeralOwner ? "none" : s->ephemeralOwner == zoo_client_id((zhandle_t *)zh)->client_id ? "me" : "other",
        s->dataLength, s->numChildren, s->mzxid != s->czxid);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void show_strings(const char *what, int rc, const struct String_vector *v) {
    printf("%s %s", what, zerror(rc));
    if (!rc) {
        qsort(v->data, v->count, sizeof *v->data, by_name);
        for (int i = 0; i < v->count; i++) printf(" %s", v->data[i]);
    }
    say("");
}

static void show_acl(const char *what, int rc, const struct ACL_vector *acl) {
    printf("%s %s", what, zerror(rc));
    for (int i = 0; !rc && i < acl->count; i++)
        printf(" %s:%s:%d", acl->data[i].id.scheme, acl->data[i].id.id, acl->data[i].perms);
    say("");
}

static zhandle_t *join(const char *host, const clientid_t *id) {
    int before = connected;
    zhandle_t *zh = zookeeper_init(host, on_session, 10000, id, NULL, 0);
    if (!zh) exit(7);
    until(&connected, before + 1, "connection");
    return zh;
}

/* -- the synchronous calls ---------------------------------------------------------------------------------------- */

static void create(zhandle_t *zh, const char *path, const char *data, int mode, int64_t ttl) {
    char made[256] = "";
    struct Stat stat;
    int length = data ? (int)strlen(data) : -1;
    int rc = ttl > 0 ? zoo_create2_ttl(zh, path, data, length, &ZOO_OPEN_ACL_UNSAFE, mode, ttl, made, sizeof made, &stat)
                     : zoo_create2(zh, path, data, length, &ZOO_OPEN_ACL_UNSAFE, mode, made, sizeof made, &stat);
    char what[512];
    snprintf(what, sizeof what, "create %s mode=%d %s", path, mode, rc ? "" : made);
    show_stat(what, rc, &stat, zh);
}

static void get(zhandle_t *zh, const char *path) {
    char data[256];
    int length = sizeof data;
    struct Stat stat;
    int rc = zoo_get(zh, path, 0, data, &length, &stat);
    if (rc)
        say("get %s %s", path, zerror(rc));
    else
        say("get %s %d <%.*s> version=%d", path, length, length > 0 ? length : 0, data, stat.version);
}

static void tour_nodes(zhandle_t *zh) {
    struct Stat stat;
    struct String_vector names = {0, NULL};
    char plain[64];
    say("plain create %s", zerror(zoo_create(zh, "/t", "top", 3, &ZOO_OPEN_ACL_UNSAFE, 0, plain, sizeof plain)));
    create(zh, "/t", "", ZOO_PERSISTENT, -1);
    create(zh, "/none/child", "", ZOO_PERSISTENT, -1);
    create(zh, "/t/null", NULL, ZOO_PERSISTENT, -1);
    create(zh, "/t/empty", "", ZOO_PERSISTENT, -1);
    create(zh, "/t/e", "mine", ZOO_EPHEMERAL, -1);
    create(zh, "/t/e/child", "", ZOO_PERSISTENT, -1);
    create(zh, "/t/s-", "1", ZOO_PERSISTENT_SEQUENTIAL, -1);
    create(zh, "/t/s-", "2", ZOO_PERSISTENT_SEQUENTIAL, -1);
    create(zh, "/t/es-", "3", ZOO_EPHEMERAL_SEQUENTIAL, -1);
    create(zh, "/t/c", "", ZOO_CONTAINER, -1);
    create(zh, "/t/ttl", "x", ZOO_PERSISTENT_WITH_TTL, 3600000);
    create(zh, "/t/ttl-", "x", ZOO_PERSISTENT_SEQUENTIAL_WITH_TTL, 3600000);
    create(zh, "/t/", "x", ZOO_PERSISTENT_SEQUENTIAL, -1);
    get(zh, "/t");
    get(zh, "/t/null");
    get(zh, "/t/empty");
    get(zh, "/none");
    show_stat("exists /t", zoo_exists(zh, "/t", 0, &stat), &stat, zh);
    show_stat("exists /none", zoo_exists(zh, "/none", 0, &stat), &stat, zh);
    say("set %s", zerror(zoo_set(zh, "/t", "one", 3, -1)));
    show_stat("set2", zoo_set2(zh, "/t", "three", 5, 1, &stat), &stat, zh);
    show_stat("set2 wrong version", zoo_set2(zh, "/t", "x", 1, 1, &stat), &stat, zh);
    show_stat("set2 none", zoo_set2(zh, "/none", "x", 1, -1, &stat), &stat, zh);
    show_strings("children", zoo_get_children(zh, "/t", 0, &names), &names);
    deallocate_String_vector(&names);
    int rc = zoo_get_children2(zh, "/t", 0, &names, &stat);
    show_strings("children2", rc, &names);
    show_stat("children2", rc, &stat, zh);
    deallocate_String_vector(&names);
    show_strings("children none", zoo_get_children(zh, "/none", 0, &names), &names);
    say("delete not empty %s", zerror(zoo_delete(zh, "/t", -1)));
    say("delete wrong version %s", zerror(zoo_delete(zh, "/t/e", 5)));
    say("delete %s", zerror(zoo_delete(zh, "/t/e", 0)));
    say("delete none %s", zerror(zoo_delete(zh, "/t/e", -1)));
    say("delete root %s", zerror(zoo_delete(zh, "/", -1)));
    char config[256];
    int length = sizeof config;
    rc = zoo_getconfig(zh, 0, config, &length, &stat);
    say("config %s %d", zerror(rc), length);
    length = sizeof config;
    say("reconfig %s", zerror(zoo_reconfig(zh, "server.9=127.0.0.1:1:2:participant;3", NULL, NULL, -1, config, &length,
                                           &stat)));
}

static void show_results(const char *what, int rc, const zoo_op_result_t *results, int n) {
    printf("%s %s:", what, zerror(rc));
    for (int i = 0; i < n; i++) printf(" %s", zerror(results[i].err));
    say("");
}

static void tour_multi(zhandle_t *zh) {
    char one[64] = "", two[64] = "";
    struct Stat stat;
    zoo_op_t ops[5];
    zoo_op_result_t results[5];
    memset(results, 0, sizeof results);
    zoo_create_op_init(&ops[0], "/m", "data", 4, &ZOO_OPEN_ACL_UNSAFE, 0, one, sizeof one);
    zoo_create_op_init(&ops[1], "/m/s-", NULL, -1, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, two, sizeof two);
    zoo_set_op_init(&ops[2], "/m", "changed", 7, 0, &stat);
    zoo_check_op_init(&ops[3], "/m", 1);
    zoo_delete_op_init(&ops[4], "/m/s-0000000000", 0);
    int rc = zoo_multi(zh, 5, ops, results);
    show_results("multi", rc, results, 5);
    say("multi made %s %s", one, two);
    show_stat("multi set", results[2].err, &stat, zh);

    memset(results, 0, sizeof results);
    zoo_set_op_init(&ops[0], "/m", "again", 5, 1, &stat);
    zoo_create_op_init(&ops[1], "/m", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, one, sizeof one);
    zoo_delete_op_init(&ops[2], "/m", -1);
    rc = zoo_multi(zh, 3, ops, results);
    show_results("multi refused", rc, results, 3);
    get(zh, "/m");
    say("multi of none %s", zerror(zoo_multi(zh, 0, ops, results)));
}

static void tour_access(zhandle_t *zh, zhandle_t *other, const char *host) {
    struct ACL_vector acl;
    struct Stat stat;
    char buffer[64];
    int length = sizeof buffer;
    (void)host;
    memset(&acl, 0, sizeof acl);
    say("acl of others %s", zerror(zoo_create(zh, "/mine", "", 0, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0)));
    completed = 0;
    say("auth %s", zerror(zoo_add_auth(zh, "digest", "ann:secret", 10, NULL, NULL)));
    say("acl %s", zerror(zoo_create(zh, "/mine", "", 0, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0)));
    int rc = zoo_get_acl(zh, "/mine", &acl, &stat);
    show_acl("get acl", rc, &acl);
    deallocate_ACL_vector(&acl);
    say("stranger reads %s", zerror(zoo_get(other, "/mine", 0, buffer, &length, &stat)));
    say("stranger writes %s", zerror(zoo_set(other, "/mine", "", 0, -1)));
    say("stranger grants %s", zerror(zoo_set_acl(other, "/mine", -1, &ZOO_OPEN_ACL_UNSAFE)));
    say("set acl wrong version %s", zerror(zoo_set_acl(zh, "/mine", 3, &ZOO_READ_ACL_UNSAFE)));
    say("set acl %s", zerror(zoo_set_acl(zh, "/mine", 0, &ZOO_READ_ACL_UNSAFE)));
    length = sizeof buffer;
    say("stranger reads %s", zerror(zoo_get(other, "/mine", 0, buffer, &length, &stat)));
    rc = zoo_get_acl(other, "/mine", &acl, &stat);
    show_acl("get acl", rc, &acl);
    show_stat("get acl", rc, &stat, zh);
    deallocate_ACL_vector(&acl);
}

/* -- the asynchronous calls, all in one pipeline ------------------------------------------------------------------ */

static void on_void(int rc, const void *data) {
    say("async %s %s", (const char *)data, zerror(rc));
    count(&completed);
}

static void on_stat(int rc, const struct Stat *stat, const void *data) {
    if (rc)
        say("async %s %s", (const char *)data, zerror(rc));
    else
        say("async %s ok version=%d children=%d", (const char *)data, stat->version, stat->numChildren);
    count(&completed);
}

static void on_data(int rc, const char *value, int length, const struct Stat *stat, const void *data) {
    if (rc)
        say("async %s %s", (const char *)data, zerror(rc));
    else
        say("async %s <%.*s> version=%d", (const char *)data, length > 0 ? length : 0, value, stat->version);
    count(&completed);
}

static void on_string(int rc, const char *value, const void *data) {
    say("async %s %s %s", (const char *)data, zerror(rc), rc ? "" : value);
    count(&completed);
}

static void on_counted(int rc, const char *value, const void *data) {
    (void)value, (void)data;
    if (!rc) count(&completed);
}

static void on_string_stat(int rc, const char *value, const struct Stat *stat, const void *data) {
    say("async %s %s %s %d", (const char *)data, zerror(rc), rc ? "" : value, rc ? -1 : stat->version);
    count(&completed);
}

static void on_strings(int rc, const struct String_vector *names, const void *data) {
    printf("async ");
    show_strings(data, rc, names);
    count(&completed);
}

static void on_strings_stat(int rc, const struct String_vector *names, const struct Stat *stat, const void *data) {
    printf("async ");
    show_strings(data, rc, names);
    (void)stat;
    count(&completed);
}

static void on_acl(int rc, struct ACL_vector *acl, struct Stat *stat, const void *data) {
    printf("async ");
    show_acl(data, rc, acl);
    (void)stat;
    count(&completed);
}

static void tour_async(zhandle_t *zh) {
    const struct ACL_vector *open = &ZOO_OPEN_ACL_UNSAFE;
    zoo_op_t ops[2];
    zoo_op_result_t results[2];
    completed = 0;
    zoo_acreate(zh, "/a", "1", 1, open, 0, on_string, "create");
    zoo_acreate(zh, "/a", "1", 1, open, 0, on_string, "create again");
    zoo_acreate2(zh, "/a/e", "2", 1, open, ZOO_EPHEMERAL, on_string_stat, "create2");
    zoo_acreate_ttl(zh, "/a/t", "3", 1, open, ZOO_PERSISTENT_WITH_TTL, 3600000, on_string, "create ttl");
    zoo_acreate2_ttl(zh, "/a/t-", "3", 1, open, ZOO_PERSISTENT_SEQUENTIAL_WITH_TTL, 3600000, on_string_stat, "create2 ttl");
    zoo_aexists(zh, "/a", 0, on_stat, "exists");
    zoo_aget(zh, "/a", 0, on_data, "get");
    zoo_aset(zh, "/a", "4", 1, 0, on_stat, "set");
    zoo_aset(zh, "/a", "4", 1, 0, on_stat, "set wrong version");
    zoo_aget(zh, "/a", 0, on_data, "get after set");
    zoo_aget_children(zh, "/a", 0, on_strings, "children");
    zoo_aget_children2(zh, "/a", 0, on_strings_stat, "children2");
    zoo_aget_acl(zh, "/a", on_acl, "get acl");
    zoo_aset_acl(zh, "/a", 0, (struct ACL_vector *)open, on_void, "set acl");
    zoo_async(zh, "/a", on_string, "sync");
    memset(results, 0, sizeof results);
    zoo_set_op_init(&ops[0], "/a", "5", 1, 1, NULL);
    zoo_delete_op_init(&ops[1], "/a/e", -1);
    zoo_amulti(zh, 2, ops, results, on_void, "multi");
    zoo_adelete(zh, "/a/t", 7, on_void, "delete wrong version");
    zoo_adelete(zh, "/a/t", -1, on_void, "delete");
    zoo_aget(zh, "/a", 0, on_data, "get at last");
    until(&completed, 19, "completions");
    completed = 0;
    for (int i = 0; i < 500; i++) zoo_acreate(zh, "/a/many-", "", 0, open, ZOO_SEQUENCE, on_counted, NULL);
    zoo_aexists(zh, "/a", 0, on_stat, "after 500 creates");
    until(&completed, 501, "the end of the pipeline");
}

/* -- watches, also over a cut connection -------------------------------------------------------------------------- */

static void show_events(const char *when) {
    pthread_mutex_lock(&mutex);
    char *names[64], *rest = events, *one;
    int n = 0;
    while (n < 64 && (one = strsep(&rest, " ")))
        if (*one) names[n++] = one;
    qsort(names, n, sizeof *names, by_name);
    printf("events %s:", when);
    for (int i = 0; i < n; i++) printf(" %s", names[i]);
    events[0] = 0;
    watched = 0;
    pthread_mutex_unlock(&mutex);
    say("");
}

static void watch_all(zhandle_t *zh) {
    char buffer[64];
    int length = sizeof buffer;
    struct Stat stat;
    struct String_vector names = {0, NULL};
    zoo_wget(zh, "/w/data", on_event, "data", buffer, &length, &stat);
    zoo_wget(zh, "/w/doomed", on_event, "data", buffer, &length, &stat);
    zoo_wexists(zh, "/w/later", on_event, "exists", &stat);
    zoo_wexists(zh, "/w/there", on_event, "exists", &stat);
    zoo_wget_children(zh, "/w/dir", on_event, "children", &names);
    deallocate_String_vector(&names);
    zoo_wget_children2(zh, "/w/quiet", on_event, "children", &names, &stat);
    deallocate_String_vector(&names);
}

static void act(zhandle_t *actor, const char *data) {
    zoo_set(actor, "/w/data", data, 1, -1);
    zoo_delete(actor, "/w/doomed", -1);
    zoo_create(actor, "/w/later", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    zoo_set(actor, "/w/there", data, 1, -1);
    zoo_create(actor, "/w/dir/child-", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, NULL, 0);
}

static void reset_watched(zhandle_t *actor, int first) {
    const char *paths[] = {"/w", "/w/data", "/w/doomed", "/w/there", "/w/dir", "/w/quiet"};
    for (int i = 0; i < 6; i++)
        if (first || i == 2) zoo_create(actor, paths[i], "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    if (!first) zoo_delete(actor, "/w/later", -1);
}

static void tour_watches(zhandle_t *actor, const char *proxy) {
    reset_watched(actor, 1);
    zhandle_t *zh = join(proxy, NULL);
    watch_all(zh);
    act(actor, "1");
    until(&watched, 5, "events");
    show_events("while connected");

    reset_watched(actor, 0);
    watch_all(zh);
    ask("cut");
    act(actor, "2");
    int before = connected;
    ask("heal");
    until(&connected, before + 1, "reconnection");
    until(&watched, 5, "events missed");
    show_events("missed while cut off");
    zoo_create(actor, "/w/quiet/child", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    until(&watched, 1, "event of a watch set again");
    show_events("of a watch set again");

    watch_all(zh);
    say("remove data watch %s", zerror(zoo_remove_watches(zh, "/w/data", ZWATCHTYPE_DATA, on_event, "data", 0)));
    say("remove none %s", zerror(zoo_remove_watches(zh, "/w/data", ZWATCHTYPE_DATA, on_event, "data", 0)));
    say("remove all %s", zerror(zoo_remove_all_watches(zh, "/w/dir", ZWATCHTYPE_ANY, 0)));
    events[0] = 0;
    watched = 0;
    zoo_set(actor, "/w/data", "3", 1, -1);
    zoo_create(actor, "/w/dir/other", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    zoo_set(actor, "/w/there", "3", 1, -1);
    until(&watched, 1, "event of the watch that is left");
    show_events("after removal");
    zookeeper_close(zh);
}

/* ----------------------------------------------------------------------------------------------------------------- */

static void show_session(zhandle_t *zh) {
    const clientid_t *id = zoo_client_id(zh);
    printf("session %llx ", (unsigned long long)id->client_id);
    for (int i = 0; i < 16; i++) printf("%02x", (unsigned char)id->passwd[i]);
    say("");
}

static int resume(const char *host, const char *session, const char *password) {
    clientid_t id;
    struct Stat stat;
    id.client_id = (int64_t)strtoull(session, NULL, 16);
    for (int i = 0; i < 16; i++) {
        unsigned byte;
        sscanf(password + 2 * i, "%2x", &byte);
        id.passwd[i] = (char)byte;
    }
    zhandle_t *zh = zookeeper_init(host, on_session, 10000, &id, NULL, 0);
    pthread_mutex_lock(&mutex);
    while (!connected && !lost) pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
    if (lost) {
        say("refused");
        return 0;
    }
    say("resumed %s", zoo_client_id(zh)->client_id == id.client_id ? "the same" : "another");
    show_stat("exists /left", zoo_exists(zh, "/left", 0, &stat), &stat, zh);
    zookeeper_close(zh);
    return 0;
}

int main(int argc, char **argv) {
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    zoo_set_log_stream(stderr);
    if (argc == 5 && !strcmp(argv[1], "resume")) return resume(argv[2], argv[3], argv[4]);
    if (argc < 3) return 2;
    zhandle_t *zh = join(argv[2], NULL);
    if (!strcmp(argv[1], "leave")) {
        zoo_create(zh, "/left", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0);
        show_session(zh);
        fflush(stdout);
        _Exit(0);
    }
    zhandle_t *other = join(argv[2], NULL);
    say("timeout %d", zoo_recv_timeout(zh));
    tour_nodes(zh);
    tour_multi(zh);
    tour_async(zh);
    tour_access(zh, other, argv[2]);
    tour_watches(other, argv[3]);
    say("close %s", zerror(zookeeper_close(zh)));
    struct Stat stat;
    show_stat("ephemeral after close", zoo_exists(other, "/t/es-0000000005", 0, &stat), &stat, other);
    say("close %s", zerror(zookeeper_close(other)));
    return 0;
}

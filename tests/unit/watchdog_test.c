/* SPDX-License-Identifier: MIT */
/// Callbacks that do not return: the watchdog names plugin or actor and callback, once, and other
/// actors and sockets go on by spare workers, which are counted and end when they are not needed.
#include "check.h"
#include "proc.h"
#include "registry.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIME 20 // ms that a callback has here

static const char *program;

/// Where callbacks of these tests do not return until it is opened.
static struct {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool open;
    atomic_int inside;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

static void gate_wait(void)
{
    atomic_fetch_add(&gate.inside, 1);
    (void)pthread_mutex_lock(&gate.lock);
    while (!gate.open) {
        (void)pthread_cond_wait(&gate.cond, &gate.lock);
    }
    (void)pthread_mutex_unlock(&gate.lock);
    atomic_fetch_sub(&gate.inside, 1);
}

static void gate_open(void)
{
    (void)pthread_mutex_lock(&gate.lock);
    gate.open = true;
    (void)pthread_cond_broadcast(&gate.cond);
    (void)pthread_mutex_unlock(&gate.lock);
}

/// What the watchdog said.
static struct {
    pthread_mutex_t lock;
    char text[4096];
    int lines;
} said = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void on_log(sp_log_level level, const char *id, const char *msg, void *arg)
{
    size_t len;

    (void)arg;
    if (level != SP_LOG_WARN || strcmp(id, "watchdog") != 0) {
        return;
    }
    (void)pthread_mutex_lock(&said.lock);
    len = strlen(said.text);
    (void)snprintf(said.text + len, sizeof(said.text) - len, "%s\n", msg);
    said.lines++;
    (void)pthread_mutex_unlock(&said.lock);
}

static int said_lines(void)
{
    int n;

    (void)pthread_mutex_lock(&said.lock);
    n = said.lines;
    (void)pthread_mutex_unlock(&said.lock);
    return n;
}

static bool said_text(const char *part)
{
    bool there;

    (void)pthread_mutex_lock(&said.lock);
    there = strstr(said.text, part) != NULL;
    (void)pthread_mutex_unlock(&said.lock);
    return there;
}

/// Fails with all that was said.
static void check_said(const char *part)
{
    if (!said_text(part)) {
        print_error("not said: \"%s\"; said:\n%s", part, said.text);
        fail();
    }
}

static void start(int threads, int time)
{
    sp_config *cfg = NULL;

    sp_fini();
    gate.open = false;
    said.lines = 0;
    said.text[0] = '\0';
    sp_log_set(SP_LOG_WARN, on_log, NULL);
    check_ok(sp_config_new(&cfg));
    check_ok(sp_config_set_int(cfg, "threads", threads));
    check_ok(sp_config_set_int(cfg, "watchdog-time", time));
    check_ok(sp_init(cfg));
    sp_config_free(cfg);
}

/// Opens the gate, and waits until nobody is held and no spare is left.
static void stop(int threads)
{
    gate_open();
    check_until(atomic_load(&gate.inside) == 0);
    check_stat_is(0, "runtime.stuck_now", 0);
    check_until(check_stat(0, "runtime.threads") <= threads);
    check_fini();
    sp_log_set(SP_LOG_WARN, NULL, NULL);
}

/// Threads of this process with a name that begins so.
static int threads_named(const char *name)
{
    DIR *dir = opendir("/proc/self/task");
    int n = 0;

    assert_non_null(dir);
    for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
        char path[300];
        char comm[32] = "";
        FILE *f;

        (void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", e->d_name);
        f = e->d_name[0] != '.' ? fopen(path, "r") : NULL;
        if (f != NULL) {
            n += fgets(comm, sizeof(comm), f) != NULL && strncmp(comm, name, strlen(name)) == 0;
            (void)fclose(f);
        }
    }
    (void)closedir(dir);
    return n;
}

/* ------------------------------------------------------------------ Actors of the application */

static int stuck_on_message(sp_actor self, void *state, unsigned port, sp_batch *in)
{
    (void)self;
    (void)state;
    (void)port;
    gate_wait();
    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        sp_msg_release(m);
    }
    return 0;
}

static int counting_on_message(sp_actor self, void *state, unsigned port, sp_batch *in)
{
    (void)self;
    (void)port;
    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        sp_msg_release(m);
        atomic_fetch_add((atomic_int *)state, 1);
    }
    return 0;
}

static void stuck_on_timer(sp_actor self, void *state, uint64_t cookie)
{
    (void)self;
    (void)state;
    (void)cookie;
    gate_wait();
}

static sp_actor spawn(int (*on_message)(sp_actor, void *, unsigned, sp_batch *), void *state)
{
    sp_actor_ops ops = {.size = sizeof(ops), .on_message = on_message, .on_timer = stuck_on_timer};
    sp_actor a;

    check_ok(sp_actor_spawn(&a, &ops, state, NULL));
    return a;
}

static void post(sp_actor a)
{
    sp_msg *m = NULL;

    check_ok(sp_msg_new(&m, 1));
    check_ok(sp_actor_post(a, m, 0));
}

/// Two PAIRs over tcp, of which one answers what it gets by callbacks alone.
struct echo {
    sp_socket asks;
    sp_socket answers;
    sp_op *op;
    bool sending;
};

static void on_echo(sp_op *op, void *arg)
{
    struct echo *e = arg;
    sp_msg *m = sp_op_msg(op);

    if (sp_op_result(op) < 0) {
        sp_msg_release(m);
        return;
    }
    e->sending = !e->sending;
    if ((e->sending ? sp_op_send(op, e->answers.id, m) : sp_op_recv(op, e->answers.id)) < 0) {
        sp_msg_release(m);
    }
}

static void echo_open(struct echo *e)
{
    check_couple("tcp", "pair", "pair", &e->asks, &e->answers);
    check_ok(sp_op_new(&e->op, on_echo, e));
    e->sending = false;
    check_ok(sp_op_recv(e->op, e->answers.id));
}

static void echo_works(struct echo *e)
{
    for (int i = 0; i < 20; i++) {
        check_send(e->asks, "echo");
        check_recv(e->asks, "echo");
    }
}

static void echo_close(struct echo *e)
{
    check_ok(sp_close(e->asks));
    check_ok(sp_close(e->answers));
    sp_op_free(e->op);
}

/// As many actors as there are workers do not return.
static void check_others_go_on(int threads)
{
    atomic_int count = 0;
    sp_actor stuck[4];
    sp_actor counts;
    struct echo echo;

    start(threads, TIME);
    counts = spawn(counting_on_message, &count);
    echo_open(&echo);
    echo_works(&echo);
    for (int i = 0; i < threads; i++) {
        stuck[i] = spawn(stuck_on_message, NULL);
        post(stuck[i]);
    }
    check_until(atomic_load(&gate.inside) == threads);
    for (int i = 0; i < 50; i++) {
        post(counts);
    }
    check_until(atomic_load(&count) == 50);
    echo_works(&echo);
    check_until(said_lines() == threads);
    for (int i = 0; i < threads; i++) {
        char name[64];

        (void)snprintf(name, sizeof(name), "actor 0x%llx: on_message has not returned for ",
                       (unsigned long long)stuck[i].id);
        check_said(name);
    }
    assert_int_equal(check_stat(0, "runtime.stuck"), threads);
    assert_int_equal(check_stat(0, "runtime.stuck_now"), threads);
    assert_in_range(check_stat(0, "runtime.spares"), 1, threads);
    assert_int_equal(gate.inside, threads);
    gate_open();
    check_stat_is(0, "runtime.stuck_now", 0);
    echo_works(&echo);
    echo_close(&echo);
    for (int i = 0; i < threads; i++) {
        check_ok(sp_actor_stop(stuck[i]));
    }
    check_ok(sp_actor_stop(counts));
    assert_int_equal(check_stat(0, "runtime.stuck"), threads);
    stop(threads);
}

static void other_actors_and_sockets_go_on_while_the_worker_is_stuck(void **state)
{
    (void)state;
    check_others_go_on(1);
}

static void other_actors_and_sockets_go_on_while_all_workers_are_stuck(void **state)
{
    (void)state;
    check_others_go_on(2);
}

static void timer_of_an_actor_is_named(void **state)
{
    sp_actor a;

    (void)state;
    start(2, TIME);
    a = spawn(counting_on_message, NULL);
    check_ok(sp_actor_timer(a, 0, 7));
    check_until(said_lines() == 1);
    check_said(": on_timer has not returned for ");
    gate_open();
    check_ok(sp_actor_stop(a));
    stop(2);
}

static void stuck_callback_is_named_once(void **state)
{
    int64_t end;
    sp_actor a;

    (void)state;
    start(1, 1);
    a = spawn(stuck_on_message, NULL);
    post(a);
    check_until(said_lines() == 1);
    for (end = check_now() + 50; check_now() < end;) { // Many looks.
        check_pause();
        assert_int_equal(said_lines(), 1);
    }
    assert_int_equal(check_stat(0, "runtime.stuck"), 1);
    gate_open();
    check_ok(sp_actor_stop(a));
    stop(1);
}

static void short_callbacks_in_a_row_are_not_stuck(void **state)
{
    atomic_int count = 0;
    int64_t end;
    int sent = 0;
    sp_actor a;

    (void)state;
    start(1, 800);
    a = spawn(counting_on_message, &count);
    for (end = check_now() + 1200; check_now() < end; sent++) { // Longer than one of them has.
        post(a);
    }
    check_until(atomic_load(&count) == sent);
    assert_int_equal(check_stat(0, "runtime.stuck"), 0);
    check_ok(sp_actor_stop(a));
    stop(1);
}

static void spares_have_a_limit(void **state)
{
    atomic_int count = 0;
    sp_actor stuck[6];
    sp_actor counts;

    (void)state;
    start(1, TIME);
    counts = spawn(counting_on_message, &count);
    for (int i = 0; i < 6; i++) {
        stuck[i] = spawn(stuck_on_message, NULL);
        post(stuck[i]);
    }
    check_until(said_lines() == 5); // The worker and four spares.
    check_said("; no other worker may be started");
    post(counts);
    assert_int_equal(check_stat(0, "runtime.threads"), 5);
    assert_int_equal(check_stat(0, "runtime.spares"), 4);
    assert_int_equal(check_stat(0, "runtime.stuck_now"), 5);
    assert_int_equal(atomic_load(&count), 0);
    gate_open();
    check_until(atomic_load(&count) == 1);
    for (int i = 0; i < 6; i++) {
        check_ok(sp_actor_stop(stuck[i]));
    }
    check_ok(sp_actor_stop(counts));
    stop(1);
}

/* ------------------------------------------------------------------ Operations, pipe events */

void stuck_done(sp_op *op, void *arg);
void stuck_done(sp_op *op, void *arg)
{
    (void)op;
    (void)arg;
    gate_wait();
}

static void callback_of_an_operation_is_named(void **state)
{
    sp_op *op = NULL;

    (void)state;
    start(1, TIME);
    check_ok(sp_op_new(&op, stuck_done, NULL));
    check_ok(sp_op_sleep(op, 0));
    check_until(said_lines() == 1);
    check_said("operation: its callback ");
    gate_open();
    sp_op_free(op);
    stop(1);
}

static int stuck_on_pipe(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    (void)s;
    (void)p;
    (void)arg;
    if (ev == SP_PIPE_ADDED) {
        gate_wait();
    }
    return 0;
}

static void function_for_pipes_is_named(void **state)
{
    char name[80];
    char url[256];
    sp_socket a;
    sp_socket b;
    struct echo echo;

    (void)state;
    start(1, TIME);
    a = check_open("pair");
    b = check_open("pair");
    check_ok(sp_on_pipe(a, stuck_on_pipe, NULL));
    check_listen(a, "tcp", url, NULL);
    check_ok(sp_dial(b, url, NULL, 0));
    check_until(said_lines() == 1);
    (void)snprintf(name, sizeof(name),
                   "socket 0x%llx (pair): the function of sp_on_pipe has not returned",
                   (unsigned long long)a.id);
    check_said(name);
    echo_open(&echo);
    echo_works(&echo);
    gate_open();
    echo_close(&echo);
    check_ok(sp_close(a));
    check_ok(sp_close(b));
    stop(1);
}

/* ------------------------------------------------------------------ Plugins */

/// A plugin that is "pair", "tcp" and "inproc", but for slots that do not return when they are
/// told.
static struct {
    sp_protocol_ops pair;
    sp_transport_ops tcp;
    sp_transport_ops inproc;
    const sp_protocol_ops *real_pair;
    const sp_transport_ops *real_tcp;
    const sp_transport_ops *real_inproc;
    atomic_int on_recv; ///< told
    atomic_int harvest;
    atomic_int handshake;
    atomic_int submit;
} odd;

static void odd_stop(atomic_int *told)
{
    int one = 1;

    if (atomic_compare_exchange_strong(told, &one, 0)) {
        gate_wait();
    }
}

static void odd_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    odd_stop(&odd.on_recv);
    odd.real_pair->on_recv(self, pipe, in);
}

static int odd_harvest(void *pipe, sp_batch *in, size_t max, unsigned ready)
{
    odd_stop(&odd.harvest);
    return odd.real_tcp->harvest(pipe, in, max, ready);
}

static int odd_handshake(void *pipe, unsigned ready, sp_handshake *hs)
{
    odd_stop(&odd.handshake);
    return odd.real_tcp->handshake(pipe, ready, hs);
}

static int odd_submit(void *pipe, sp_batch *out)
{
    odd_stop(&odd.submit);
    return odd.real_tcp->submit(pipe, out);
}

static int odd_pass(void *pipe, sp_batch *out)
{
    odd_stop(&odd.submit);
    return odd.real_inproc->submit(pipe, out);
}

static const sp_plugin *odd_entry(void)
{
    static const sp_export exports[] = {{SP_KIND_PROTOCOL, "odd", {.protocol = &odd.pair}},
                                        {SP_KIND_TRANSPORT, "odd", {.transport = &odd.tcp}},
                                        {SP_KIND_TRANSPORT, "pass", {.transport = &odd.inproc}}};
    static const sp_plugin plugin = {
        sizeof(plugin),    1,    0,   0, "org.example.odd", "1", "v", "l", "d", exports, 3,
        sizeof(sp_export), NULL, NULL};

    return &plugin;
}

static void odd_register(void)
{
    const struct sp__protocol *p;
    const struct sp__transport *t;

    check_ok(sp__registry_protocol("pair", &p));
    odd.real_pair = &p->ops;
    odd.pair = p->ops;
    odd.pair.on_recv = odd_on_recv;
    check_ok(sp__registry_transport("tcp", &t));
    odd.real_tcp = &t->ops;
    odd.tcp = t->ops;
    odd.tcp.harvest = odd_harvest;
    odd.tcp.handshake = odd_handshake;
    odd.tcp.submit = odd_submit;
    check_ok(sp__registry_transport("inproc", &t));
    odd.real_inproc = &t->ops;
    odd.inproc = t->ops;
    odd.inproc.submit = odd_pass;
    check_ok(sp__registry_add(odd_entry));
}

/// Two sockets, of which the work of sends is done by workers alone, or not.
static void odd_couple(const char *url, const char *protocol, bool in_place, sp_socket *a,
                       sp_socket *b)
{
    int scheme = (int)(strchr(url, ':') - url);
    char bound[256];
    char dialled[256];
    size_t cap = sizeof(bound);
    sp_listener l;

    *a = check_open(protocol);
    *b = check_open(protocol);
    check_ok(sp_set_int(a->id, "in-place", in_place));
    check_ok(sp_set_int(b->id, "in-place", in_place));
    check_ok(sp_listen(*b, url, &l));
    check_ok(sp_get_str(l.id, "url", bound, &cap));
    // What it is bound to has the scheme of the real one.
    (void)snprintf(dialled, sizeof(dialled), "%.*s%s", scheme, url, strchr(bound, ':'));
    check_ok(sp_dial(*a, dialled, NULL, SP_NONBLOCK));
}

/// A slot of the plugin does not return on one of so many workers: it is named so, and all else
/// goes on.
static void check_slot(int threads, const char *url, const char *protocol, atomic_int *told,
                       bool connects, const char *name)
{
    struct echo echo;
    sp_socket a;
    sp_socket b;

    start(threads, TIME);
    odd_register();
    echo_open(&echo);
    echo_works(&echo);
    atomic_store(told, connects);
    odd_couple(url, protocol, false, &a, &b);
    if (!connects) {
        check_pipes(a, 1);
        check_pipes(b, 1);
        atomic_store(told, 1);
        check_send(a, "x");
    }
    check_until(said_lines() == 1);
    check_said(name);
    echo_works(&echo);
    assert_int_equal(check_stat(0, "runtime.stuck_now"), 1);
    assert_int_equal(check_stat(0, "runtime.stuck"), 1);
    gate_open();
    if (!connects) {
        check_recv(b, "x");
    }
    check_stat_is(0, "runtime.stuck_now", 0);
    echo_close(&echo);
    check_ok(sp_close(a));
    check_ok(sp_close(b));
    stop(threads);
}

static void slot_of_a_protocol_is_named(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 2; threads++) {
        check_slot(threads, "tcp://127.0.0.1:0", "odd", &odd.on_recv, false,
                   "protocol odd (plugin org.example.odd, socket 0x");
        check_said("): on_recv has not returned for ");
    }
}

static void slots_of_a_transport_are_named(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 2; threads++) {
        check_slot(threads, "odd://127.0.0.1:0", "pair", &odd.harvest, false,
                   "transport odd (plugin org.example.odd, socket 0x");
        check_said("): harvest has not returned for ");
        check_slot(threads, "odd://127.0.0.1:0", "pair", &odd.submit, false,
                   "): submit has not returned for ");
        check_slot(threads, "odd://127.0.0.1:0", "pair", &odd.handshake, true,
                   "): handshake has not returned for ");
    }
}

static void transport_that_passes_is_named_and_not_the_protocol(void **state)
{
    (void)state;
    check_slot(1, "pass://odd", "pair", &odd.submit, false,
               "transport pass (plugin org.example.odd, socket 0x");
    check_said("): submit has not returned for ");
}

static long send_x(void *arg)
{
    return sp_send(*(sp_socket *)arg, "x", 1, 0);
}

static void slot_on_a_thread_of_the_application_is_named(void **state)
{
    struct check_call call;
    struct echo echo;
    sp_socket a;
    sp_socket b;

    (void)state;
    start(2, TIME);
    odd_register();
    echo_open(&echo);
    odd_couple("odd://127.0.0.1:0", "pair", true, &a, &b);
    check_pipes(a, 1);
    atomic_store(&odd.submit, 1);
    echo_works(&echo); // So that the watchdog is there.
    check_call_start(&call, send_x, &a);
    check_until(said_lines() == 1);
    check_said("): submit has not returned for ");
    assert_int_equal(check_stat(0, "runtime.stuck"), 1);
    assert_int_equal(check_stat(0, "runtime.stuck_now"), 0); // No worker is.
    assert_int_equal(check_stat(0, "runtime.spares"), 0);
    echo_works(&echo);
    gate_open();
    assert_int_equal(check_call_join(&call, CHECK_SOON), SP_OK);
    check_recv(b, "x");
    echo_close(&echo);
    check_ok(sp_close(a));
    check_ok(sp_close(b));
    stop(2);
}

/* ------------------------------------------------------------------ Coming and going */

static void no_watchdog_with_time_0(void **state)
{
    sp_actor a;

    (void)state;
    start(1, 0);
    a = spawn(stuck_on_message, NULL);
    post(a);
    check_until(atomic_load(&gate.inside) == 1);
    assert_int_equal(threads_named("sp-watchdog"), 0);
    assert_int_equal(check_stat(0, "runtime.stuck"), 0);
    gate_open();
    check_ok(sp_actor_stop(a));
    stop(1);
}

static void no_watchdog_with_threads_0(void **state)
{
    sp_socket a;
    sp_socket b;

    (void)state;
    check_init(0);
    check_couple("tcp", "pair", "pair", &a, &b);
    check_send(a, "x");
    check_recv(b, "x");
    assert_int_equal(threads_named("sp-"), 0);
    check_fini();
}

static void watchdog_comes_with_work_and_leaves_with_it(void **state)
{
    struct echo echo;

    (void)state;
    start(2, 1000);
    assert_int_equal(threads_named("sp-watchdog"), 0);
    echo_open(&echo);
    for (int i = 0; i < 3; i++) {
        echo_works(&echo);
        check_until(threads_named("sp-watchdog") == 1);
        check_until(threads_named("sp-watchdog") == 0 && threads_named("sp-") == 1);
    }
    echo_close(&echo);
    stop(2);
}

/// The child of the test below: all workers are stuck when it exits.
static int exit_while_stuck(void)
{
    sp_actor a;

    start(1, TIME);
    a = spawn(stuck_on_message, NULL);
    post(a);
    check_until(said_lines() == 1);
    check_until(check_stat(0, "runtime.threads") == 2); // It, and a spare.
    return 7;
}

static void process_ends_while_callbacks_are_stuck(void **state)
{
    struct proc p = {0};

    (void)state;
    check_ok(proc_start(&p, (const char *const[]){program, "exit", NULL}));
    assert_int_equal(proc_wait(&p, PROC_SOON), 7);
    proc_stop(&p);
}

static void child_after_fork_has_no_part_in_it(void **state)
{
    int status = 0;
    sp_actor a;
    pid_t pid;

    (void)state;
    start(1, TIME);
    a = spawn(stuck_on_message, NULL);
    post(a);
    check_until(said_lines() == 1);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        sp_socket s;

        (void)alarm(20);
        _exit(sp_open(&s, "pair") == SP_ESTATE ? 7 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    gate_open();
    check_ok(sp_actor_stop(a));
    stop(1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_actors_and_sockets_go_on_while_the_worker_is_stuck),
        cmocka_unit_test(other_actors_and_sockets_go_on_while_all_workers_are_stuck),
        cmocka_unit_test(timer_of_an_actor_is_named),
        cmocka_unit_test(stuck_callback_is_named_once),
        cmocka_unit_test(short_callbacks_in_a_row_are_not_stuck),
        cmocka_unit_test(spares_have_a_limit),
        cmocka_unit_test(callback_of_an_operation_is_named),
        cmocka_unit_test(function_for_pipes_is_named),
        cmocka_unit_test(slot_of_a_protocol_is_named),
        cmocka_unit_test(slots_of_a_transport_are_named),
        cmocka_unit_test(transport_that_passes_is_named_and_not_the_protocol),
        cmocka_unit_test(slot_on_a_thread_of_the_application_is_named),
        cmocka_unit_test(no_watchdog_with_time_0),
        cmocka_unit_test(no_watchdog_with_threads_0),
        cmocka_unit_test(watchdog_comes_with_work_and_leaves_with_it),
        cmocka_unit_test(process_ends_while_callbacks_are_stuck),
        cmocka_unit_test(child_after_fork_has_no_part_in_it),
    };

    program = argv[0];
    if (argc > 1 && strcmp(argv[1], "exit") == 0) {
        return exit_while_stuck();
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

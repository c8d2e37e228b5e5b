/* Sends requests of one line each to a Unix socket and times the answers, which are a line each, too.
 *
 *   load [-r RATE] [-x PREFIX] [-w WARM] SOCKET CONNECTIONS DEPTH REQUESTS FILE
 *
 * Each line of FILE is a request; a connection sends them in turn and has DEPTH of them under way. In a line, {n} stands
 * for the number of the request, {c} for that of the connection, {r} for an end of line inside it, and {x} for what
 * followed PREFIX, up to a quote, in the oldest answer of this connection not used yet; a request with {x} waits for
 * that. Its own answer is not searched.
 * -r sends RATE requests a second by the clock, whatever the server does, each on an idle connection; a request's time
 * begins when it was due, so that a stall counts for every request that it delays.
 * The first WARM answers are not counted (default: a twentieth).
 *
 * Prints one JSON object: requests a second, and for all requests and for each line the percentiles in microseconds.
 * A time runs from before the write that carries a request to after the read that brings its answer.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 4096, CAPTURED = 96, CHUNK = 1 << 16, LINES = 64, LONGEST = 60 };

typedef struct {
    uint64_t begun; /* 0 until it is written */
    int line;
} Request;

typedef struct {
    int fd, number, line; /* which line comes next */
    char *in, *out;
    size_t arrived, room, queued, written, space;
    Request *ring; /* what is under way: DEPTH at most */
    unsigned oldest, newest;
    char (*captured)[CAPTURED];
    unsigned used, found, places;
} Connection;

static struct { char text[LINE]; int waits; } lines[LINES];
static int line_count, depth, connection_count;
static const char *prefix;
static double rate;
static long total, sent, answered, warm = -1, counted;
static uint64_t *times, first_counted, last_counted;
static unsigned char *time_line;

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, errno ? strerror(errno) : "not as expected");
    exit(1);
}

static void *or_fail(void *memory) {
    if (!memory) fail("memory");
    return memory;
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static unsigned under_way(const Connection *c) { return c->newest - c->oldest; }

static int push(Connection *c) {
    int number = c->line;
    if (sent >= total || under_way(c) == (unsigned)depth) return 0;
    if (lines[number].waits && c->used == c->found) return 0;
    if (c->space < c->queued + 2 * LINE) c->out = or_fail(realloc(c->out, c->space = 2 * c->space + 4 * LINE));
    char *to = c->out + c->queued;
    for (const char *from = lines[number].text; *from;) {
        if (from[0] != '{' || !from[1] || from[2] != '}' || !strchr("ncrx", from[1])) {
            *to++ = *from++;
            continue;
        }
        if (from[1] == 'n') to += sprintf(to, "%ld", sent);
        if (from[1] == 'c') to += sprintf(to, "%d", c->number);
        if (from[1] == 'r') to += sprintf(to, "\r\n");
        if (from[1] == 'x') to += sprintf(to, "%s", c->captured[c->used++ % c->places]);
        from += 3;
    }
    *to++ = '\n';
    c->queued = (size_t)(to - c->out);
    c->ring[c->newest++ % depth] = (Request){0, number};
    c->line = (number + 1) % line_count;
    sent++;
    return 1;
}

static void write_out(Connection *c, uint64_t begun) {
    if (c->written == c->queued) return;
    for (unsigned n = c->oldest; n != c->newest; n++)
        if (!c->ring[n % depth].begun) c->ring[n % depth].begun = begun ? begun : now();
    while (c->written < c->queued) {
        ssize_t wrote = write(c->fd, c->out + c->written, c->queued - c->written);
        if (wrote < 0 && errno == EAGAIN) return;
        if (wrote < 0) fail("write");
        c->written += (size_t)wrote;
    }
    c->queued = c->written = 0;
}

static void take(Connection *c, char *answer, uint64_t at) {
    if (!under_way(c)) fail("an answer without a request");
    Request *request = &c->ring[c->oldest++ % depth];
    const char *found = prefix && !lines[request->line].waits ? strstr(answer, prefix) : NULL;
    if (found) {
        found += strlen(prefix);
        snprintf(c->captured[c->found++ % c->places], CAPTURED, "%.*s", (int)strcspn(found, "\""), found);
    }
    if (strstr(answer, "\"type\":\"error\"") || answer[0] == '-') {
        errno = 0;
        fail(answer);
    }
    if (++answered == warm) first_counted = at;
    if (answered <= warm) return;
    times[counted] = at - request->begun;
    time_line[counted++] = (unsigned char)request->line;
    last_counted = at;
}

static void read_in(Connection *c) {
    if (c->room < c->arrived + CHUNK + 1) c->in = or_fail(realloc(c->in, c->room = c->arrived + 2 * CHUNK));
    ssize_t got = read(c->fd, c->in + c->arrived, CHUNK);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) fail("the server ended the connection");
    uint64_t at = now();
    char *from = c->in, *newline, *look = c->in + c->arrived;
    c->arrived += (size_t)got;
    while ((newline = memchr(look, '\n', (size_t)(c->in + c->arrived - look)))) {
        *newline = 0;
        take(c, from, at);
        from = look = newline + 1;
    }
    c->arrived -= (size_t)(from - c->in);
    memmove(c->in, from, c->arrived);
}

static void connect_to(Connection *c, const char *path, int blocking) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (c->fd < 0 || c->fd >= FD_SETSIZE || connect(c->fd, (struct sockaddr *)&address, sizeof address)) fail(path);
    if (!blocking) fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK);
    c->ring = or_fail(calloc((size_t)depth, sizeof *c->ring));
    c->places = (unsigned)depth + LINES;
    c->captured = or_fail(calloc(c->places, CAPTURED));
}

/* One connection with one request under way: no system call but the write and the read. */
static void one_after_the_other(Connection *c) {
    while (answered < total) {
        push(c);
        write_out(c, 0);
        read_in(c);
    }
}

static void as_fast_as_answered(Connection *all) {
    struct pollfd *polled = or_fail(calloc((size_t)connection_count, sizeof *polled));
    while (answered < total) {
        for (int n = 0; n < connection_count; n++) {
            while (push(&all[n])) continue;
            write_out(&all[n], 0);
            short writing = all[n].queued ? POLLOUT : 0;
            polled[n] = (struct pollfd){all[n].fd, (short)(POLLIN | writing), 0};
        }
        if (poll(polled, (nfds_t)connection_count, LONGEST * 1000) < 1) fail("no answer");
        for (int n = 0; n < connection_count; n++)
            if (polled[n].revents & (POLLIN | POLLHUP)) read_in(&all[n]);
    }
    free(polled);
}

static void by_the_clock(Connection *all) {
    uint64_t begun = now();
    int turn = 0;
    while (answered < total) {
        int idle = 0, highest = 0;
        uint64_t due = begun + (uint64_t)((double)sent * 1e9 / rate);
        fd_set readable;
        FD_ZERO(&readable);
        for (int n = 0; n < connection_count; n++) {
            Connection *c = &all[(turn + n) % connection_count];
            if (!under_way(c) && sent < total && due <= now() && push(c)) {
                write_out(c, due);
                due = begun + (uint64_t)((double)sent * 1e9 / rate);
                turn = (turn + n + 1) % connection_count;
                n = -1;
                continue;
            }
            idle += !under_way(c);
        }
        for (int n = 0; n < connection_count; n++) {
            FD_SET(all[n].fd, &readable);
            if (all[n].fd > highest) highest = all[n].fd;
        }
        uint64_t at = now(), wait = sent < total && idle ? (due > at ? due - at : 0) : LONGEST * 1000000000ull;
        struct timeval t = {(time_t)(wait / 1000000000u), (suseconds_t)(wait % 1000000000u / 1000u)};
        if (select(highest + 1, &readable, NULL, NULL, &t) < 0) fail("select");
        for (int n = 0; n < connection_count; n++)
            if (FD_ISSET(all[n].fd, &readable)) read_in(&all[n]);
    }
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void print_percentiles(uint64_t *of, long count) {
    static const struct { const char *name; double part; } wanted[] = {
        {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
    double sum = 0;
    qsort(of, (size_t)count, sizeof *of, by_size);
    for (long n = 0; n < count; n++) sum += (double)of[n];
    printf("\"count\":%ld,\"mean\":%.2f", count, count ? sum / (double)count / 1000 : 0);
    for (int n = 0; n < 4; n++) {
        long place = (long)(wanted[n].part * (double)count);
        printf(",\"%s\":%.2f", wanted[n].name, count ? (double)of[place < count ? place : count - 1] / 1000 : 0);
    }
}

int main(int argc, char **argv) {
    int option;
    while ((option = getopt(argc, argv, "r:x:w:")) != -1) switch (option) {
        case 'r': rate = atof(optarg); break;
        case 'x': prefix = optarg; break;
        case 'w': warm = atol(optarg); break;
        default: return 2;
    }
    if (argc - optind != 5) {
        fprintf(stderr, "usage: load [-r RATE] [-x PREFIX] [-w WARM] SOCKET CONNECTIONS DEPTH REQUESTS FILE\n");
        return 2;
    }
    connection_count = atoi(argv[optind + 1]);
    depth = rate > 0 ? 1 : atoi(argv[optind + 2]);
    total = atol(argv[optind + 3]);
    if (warm < 0) warm = total / 20;
    FILE *file = fopen(argv[optind + 4], "r");
    if (!file) fail(argv[optind + 4]);
    while (line_count < LINES && fgets(lines[line_count].text, LINE - 512, file)) {
        lines[line_count].text[strcspn(lines[line_count].text, "\n")] = 0;
        lines[line_count].waits = !!strstr(lines[line_count].text, "{x}");
        line_count++;
    }
    if (!line_count || connection_count < 1 || depth < 1 || total < 1) fail("numbers or lines");
    times = or_fail(calloc((size_t)total, sizeof *times));
    time_line = or_fail(calloc((size_t)total, 1));
    Connection *all = or_fail(calloc((size_t)connection_count, sizeof *all));
    int alone = connection_count == 1 && depth == 1 && rate <= 0;
    for (int n = 0; n < connection_count; n++) {
        all[n].number = n;
        connect_to(&all[n], argv[optind], alone);
    }
    first_counted = now();
    if (alone) one_after_the_other(all);
    else if (rate > 0) by_the_clock(all);
    else as_fast_as_answered(all);

    double span = (double)(last_counted - first_counted) / 1e9;
    uint64_t *of = or_fail(calloc((size_t)counted + 1, sizeof *of));
    printf("{\"rate\":%.1f,\"lines\":[", span > 0 ? (double)counted / span : 0);
    for (int line = 0; line < line_count; line++) {
        long count = 0;
        for (long n = 0; n < counted; n++)
            if (time_line[n] == line) of[count++] = times[n];
        printf("%s{", line ? "," : "");
        print_percentiles(of, count);
        printf("}");
    }
    printf("],\"all\":{");
    print_percentiles(times, counted);
    printf("}}\n");
    return 0;
}

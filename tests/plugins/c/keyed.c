/*
 * A handler of state and timers in plain C. An event's text says what it does: its first letter the callback, the rest the
 * value, the time or the key; the name is always `n`. It emits what it found, or the code of the answer. `!` tries all that
 * must be refused. A timer is written down.
 *
 * With HANDLER_SIZE its table ends where that says.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tidemill.h>

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

#ifndef HANDLER_SIZE
#define HANDLER_SIZE sizeof(tidemill_handler)
#endif

static int32_t init(const tidemill_setup *setup, void **instance) {
    tidemill_slice name = TEXT("n"), out;
    *instance = NULL;
    const tidemill_host *host = setup->host;
    return host->state_get(setup->context, name, &out) == TIDEMILL_NO_STATE &&
                   host->timer_set(setup->context, name, TIDEMILL_CLOCK_EVENT, 0) == TIDEMILL_NO_STATE &&
                   host->lookup(setup->context, name, name, &out) == TIDEMILL_INVALID
               ? TIDEMILL_OK
               : TIDEMILL_REJECT;
}

static int32_t reject(const tidemill_call *call, const char *why) {
    tidemill_slice message = {(const uint8_t *)why, strlen(why)};
    tidemill_failure failure = {.size = sizeof failure, .version = TIDEMILL_VERSION, .message = message};
    call->host->fail(call->context, &failure);
    return TIDEMILL_REJECT;
}

static int32_t emit(const tidemill_call *call, const char *line, size_t length) {
    tidemill_output output = {.size = sizeof output, .version = TIDEMILL_VERSION};
    output.value = (tidemill_slice){(const uint8_t *)line, length};
    return call->host->emit(call->context, &output) == TIDEMILL_FOUND ? TIDEMILL_OK : TIDEMILL_REJECT;
}

static int32_t try_all_that_is_refused(const tidemill_call *call) {
    static const uint8_t longest[257] = {'a'};
    static const tidemill_slice names[] = {{NULL, 0}, TEXT(""), {longest, sizeof longest}, TEXT("\xff")};
    const tidemill_host *host = call->host;
    tidemill_slice good = TEXT("n"), none = {NULL, 0}, out;
    for (size_t i = 0; i < sizeof names / sizeof *names; i += 1) {
        if (host->state_get(call->context, names[i], &out) != TIDEMILL_INVALID ||
            host->state_put(call->context, names[i], good, 0) != TIDEMILL_INVALID ||
            host->timer_set(call->context, names[i], TIDEMILL_CLOCK_WALL, 0) != TIDEMILL_INVALID ||
            host->timer_cancel(call->context, names[i]) != TIDEMILL_INVALID ||
            host->lookup(call->context, names[i], good, &out) != TIDEMILL_INVALID) {
            return reject(call, "a name that is none was taken");
        }
    }
    if (host->timer_set(call->context, good, TIDEMILL_CLOCK_EVENT, -1) != TIDEMILL_INVALID ||
        host->timer_set(call->context, good, 2, 0) != TIDEMILL_INVALID) {
        return reject(call, "a time that is none was taken");
    }
    if (host->lookup(call->context, good, none, &out) != TIDEMILL_INVALID) {
        return reject(call, "a key that is none was looked up");
    }
    return TIDEMILL_OK;
}

static int32_t handle(void *instance, const tidemill_event *event, const tidemill_call *call) {
    (void)instance;
    const tidemill_host *host = call->host;
    char text[64] = {0}, line[64];
    memcpy(text, event->data.pointer, event->data.length < 63 ? event->data.length : 63);
    tidemill_slice name = TEXT("n"), table = TEXT("profiles"), none = {NULL, 0}, out = none;
    tidemill_slice rest = {(const uint8_t *)text + 1, strlen(text + 1)};
    int32_t answer;
    switch (text[0]) {
    case '!': return try_all_that_is_refused(call);
    case 'g': answer = host->state_get(call->context, name, &out); break;
    case 'p': answer = host->state_put(call->context, name, rest, 0); break;
    case 'd': answer = host->state_put(call->context, name, none, 0); break;
    case 't': answer = host->timer_set(call->context, name, TIDEMILL_CLOCK_EVENT, atoll(text + 1)); break;
    case 'w': answer = host->timer_set(call->context, name, TIDEMILL_CLOCK_WALL, atoll(text + 1)); break;
    case 'c': answer = host->timer_cancel(call->context, name); break;
    case 'l': answer = host->lookup(call->context, table, rest, &out); break;
    default: return reject(call, "no such word");
    }
    if (answer == TIDEMILL_FOUND && out.pointer != NULL) {
        return emit(call, (const char *)out.pointer, out.length);
    }
    return emit(call, line, (size_t)snprintf(line, sizeof line, "%" PRId32, answer));
}

static int32_t on_timer(void *instance, const tidemill_fired *fired, const tidemill_call *call) {
    (void)instance;
    tidemill_header header;
    if (call->host->header(call->context, 0, &header) != TIDEMILL_ABSENT) {
        return reject(call, "there is no event here");
    }
    char line[256];
    int length = snprintf(line, sizeof line, "%.*s %.*s %" PRIu32 " %" PRId64 " %" PRId64, (int)fired->key.length,
                          (const char *)fired->key.pointer, (int)fired->name.length, (const char *)fired->name.pointer,
                          fired->clock, fired->at_ms, call->watermark_ms);
    return emit(call, line, (size_t)length);
}

static void drop(void *instance) { (void)instance; }

static const tidemill_handler handler = {
    .size = HANDLER_SIZE,
    .version = TIDEMILL_VERSION,
    .name = TEXT("keyed"),
    .init = init,
    .handle = handle,
    .drop = drop,
    .on_timer = on_timer,
};

static const tidemill_handler *const handlers[] = {&handler};

static const tidemill_plugin_table plugin = {
    sizeof(tidemill_plugin_table), TIDEMILL_VERSION, TEXT("plain C"), handlers, 1,
};

const tidemill_plugin_table *tidemill_plugin(void) { return &plugin; }

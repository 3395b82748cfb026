/*
 * Writes every event on as it came: a plugin in plain C.
 *
 *     cc -shared -fPIC -O2 -I functions/abi/include -o libecho_c.so functions/echo-c/echo.c
 */
#include <stdlib.h>
#include <string.h>
#include <tidemill.h>

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

typedef struct counter {
    uint64_t calls;
} counter;

static int32_t start(const tidemill_setup *setup, void **instance) {
    counter *made = calloc(1, sizeof *made);
    if (made == NULL) {
        tidemill_failure failure = {sizeof failure, TIDEMILL_VERSION, TEXT("out of memory"), {NULL, 0}, 0};
        setup->host->fail(setup->context, &failure);
        return TIDEMILL_RETRY;
    }
    *instance = made;
    return TIDEMILL_OK;
}

static int32_t echo(void *instance, const tidemill_event *event, const tidemill_call *call) {
    counter *counter = instance;
    counter->calls += 1;
    tidemill_slice calls = TEXT("calls");
    call->host->count(call->context, calls, 1);

    /* Headers go on as well. */
    tidemill_header headers[32];
    size_t count = 0;
    while (count < 32 && call->host->header(call->context, count, &headers[count]) == TIDEMILL_FOUND) {
        count += 1;
    }
    tidemill_output output = {
        .size = sizeof output,
        .version = TIDEMILL_VERSION,
        .key_kind = TIDEMILL_KEY_OF_EVENT,
        .value = event->data,
        .content_type = event->content_type,
        .headers = headers,
        .header_count = count,
    };
    if (call->host->emit(call->context, &output) != TIDEMILL_FOUND) {
        tidemill_failure failure = {sizeof failure, TIDEMILL_VERSION, TEXT("refused"), TEXT("refused"), 0};
        call->host->fail(call->context, &failure);
        return TIDEMILL_REJECT;
    }
    return TIDEMILL_OK;
}

/* Rejects events that are not of the type that the manifest's author wanted: shows attributes and failures. */
static int32_t typed(void *instance, const tidemill_event *event, const tidemill_call *call) {
    tidemill_slice name = TEXT("type"), type;
    if (call->host->attribute(call->context, name, &type) == TIDEMILL_FOUND && type.length == 5 &&
        memcmp(type.pointer, "typed", 5) == 0) {
        return echo(instance, event, call);
    }
    tidemill_failure failure = {sizeof failure, TIDEMILL_VERSION, TEXT("not typed"), TEXT("untyped"), 0};
    call->host->fail(call->context, &failure);
    return TIDEMILL_REJECT;
}

static const tidemill_handler echo_handler = {
    .size = sizeof(tidemill_handler),
    .version = TIDEMILL_VERSION,
    .name = TEXT("echo"),
    .init = start,
    .handle = echo,
    .drop = free,
};

static const tidemill_handler typed_handler = {
    .size = sizeof(tidemill_handler),
    .version = TIDEMILL_VERSION,
    .name = TEXT("typed"),
    .init = start,
    .handle = typed,
    .drop = free,
};

static const tidemill_handler *const handlers[] = {&echo_handler, &typed_handler};

static const tidemill_plugin_table plugin = {
    sizeof(tidemill_plugin_table), TIDEMILL_VERSION, TEXT("plain C"), handlers, 2,
};

const tidemill_plugin_table *tidemill_plugin(void) { return &plugin; }

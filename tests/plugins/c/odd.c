/* Plugins that break the contract, one per macro; without any it emits ANSWER. */
#include <tidemill.h>

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

#ifndef ANSWER
#define ANSWER "one"
#endif
#ifndef ABI
#define ABI TIDEMILL_VERSION
#endif
#ifndef SIZE
#define SIZE sizeof(tidemill_plugin_table)
#endif
#ifndef STATUS
#define STATUS TIDEMILL_OK
#endif
#ifndef NAME
#define NAME "odd"
#endif
#ifndef COUNT
#define COUNT 1
#endif
#ifndef HANDLE
#define HANDLE handle
#endif

static int32_t init(const tidemill_setup *setup, void **instance) {
    (void)setup;
    *instance = NULL;
    return TIDEMILL_OK;
}

int32_t handle(void *instance, const tidemill_event *event, const tidemill_call *call) {
    (void)instance;
    (void)event;
    tidemill_slice answer = TEXT(ANSWER);
    tidemill_output output = {.size = sizeof output, .version = TIDEMILL_VERSION, .value = answer};
    call->host->emit(call->context, &output);
#ifdef MESSAGE
    tidemill_failure failure = {.size = sizeof failure, .version = TIDEMILL_VERSION, .message = TEXT(MESSAGE)};
    call->host->fail(call->context, &failure);
#endif
    return STATUS;
}

static void drop(void *instance) { (void)instance; }

static const tidemill_handler handler = {
    .size = sizeof(tidemill_handler),
    .version = TIDEMILL_VERSION,
    .name = TEXT(NAME),
    .init = init,
    .handle = HANDLE,
    .drop = drop,
};

static const tidemill_handler *const handlers[] = {&handler, &handler};

static const tidemill_plugin_table plugin = {SIZE, ABI, TEXT("plain C"), handlers, COUNT};

#ifdef NO_SYMBOL
const tidemill_plugin_table *something_else(void) { return &plugin; }
#elif defined(NULL_TABLE)
const tidemill_plugin_table *tidemill_plugin(void) { return (void)plugin, NULL; }
#else
const tidemill_plugin_table *tidemill_plugin(void) { return &plugin; }
#endif

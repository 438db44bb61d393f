/* SPDX-License-Identifier: Apache-2.0 */
/* kvferry for hosts in C, and in every language that can call C. Libraries: libkvferry.so, UCX.
 *
 * A worker is one rank of an instance (one model replica). Its host publishes cache memory and what
 * lies where in it (pages), then opens sessions: one per request and rank, `tx` where the prompt
 * was prefilled, `rx` where it will be decoded. A session has two answers: its outcome, once, at
 * the latest by its deadline; and its release, when it is proven that nobody touches its slots any
 * more. Only the release allows a host to reuse slots.
 *
 * Calls. Each returns KVF_OK or the reason, whose text is kvf_last_error(). No call throws, and
 * none blocks unless its comment says so. All are thread-safe; one thread at a time drives one
 * session. No thread of kvferry ever runs code of the host: what happens is told by events.
 *
 * Handles are numbers in the shape of pointers: they are looked up, never followed, and never used
 * twice. A handle that was freed gets KVF_GONE, NULL gets KVF_INVALID_ARGUMENT; freeing NULL is no
 * error. A child of fork() gets KVF_UNSUPPORTED for every handle of its parent.
 *
 * Structs begin with their size: `kvf_slice slice = {sizeof slice};` and set what differs from
 * zero; zero is every field's default. A library that is newer than its caller reads what the
 * caller does not know as zero; one that is older refuses (KVF_UNSUPPORTED) what it does not know,
 * unless that is zero. In an array the first element's size is the distance between elements. What
 * a call is given (texts, arrays, structs) is copied before it returns; only memory that is
 * published is borrowed. */
#ifndef KVFERRY_H
#define KVFERRY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Major << 16 | minor. Another major breaks callers; a minor only adds. */
#define KVF_ABI_VERSION 0x10005u

uint32_t kvf_abi_version(void); /* of the library that was loaded */
const char* kvf_version(void);  /* "0.1.0" */

/* The rid of a request that its host names with text: the same on both sides, and in every
 * release. */
uint64_t kvf_rid_of(const char* name, size_t bytes);

/* ---- Errors -------------------------------------------------------------------------------- */

/* Numbers are never reused. What each means for its caller is in the text of the error. */
enum {
    KVF_OK = 0,
    KVF_INVALID_ARGUMENT = 1, /* the call is wrong in every state */
    KVF_MALFORMED_MESSAGE = 2,
    KVF_PROTOCOL_MISMATCH = 3, /* the peer is of another release */
    KVF_FOREIGN_PEER = 4,
    KVF_STALE_INCARNATION = 5,
    KVF_LAYOUT_MISMATCH = 6, /* the two caches cannot be mapped; names both values */
    KVF_MISSING_LAYOUT = 7,
    KVF_PLAN_INVALID = 8,   /* an address outside every region, or bytes covered twice */
    KVF_LIMIT_EXCEEDED = 9, /* a maximum is reached: less at once, or a higher maximum */
    KVF_INSTANCE_INCOMPLETE = 10,
    KVF_REGISTRATION_FAILED = 11,
    KVF_DIAL_FAILED = 12, /* nobody answered there in time */
    KVF_LINK_LOST = 13,
    KVF_PEER_GONE = 14, /* the peer's process has ended */
    KVF_DEADLINE_EXCEEDED = 15,
    KVF_CANCELLED = 16,
    KVF_GONE = 17, /* the handle was freed, or the session has ended */
    KVF_DUPLICATE = 18,
    KVF_TRANSFER_FAILED = 19,
    KVF_TRANSFER_IN_DOUBT = 20,
    KVF_STOPPED = 21, /* the worker has stopped, or is about to */
    KVF_SYSTEM_CALL_FAILED = 22,
    KVF_UCX_FAILED = 23,
    KVF_CUDA_FAILED = 24,
    KVF_HANDLER_FAILED = 25, /* a bug of kvferry: report it */
    KVF_UNSUPPORTED = 26,    /* forked child; missing in this machine, build or release */
    KVF_DIGEST_MISMATCH = 27,
    KVF_NOT_SELECTED = 28,
    KVF_NOT_PROVEN = 29 /* memory may still be written: free and reuse none, end the process */
};

/* Of this thread's last call; "" after success. Valid until its next call. */
const char* kvf_last_error(void);

/* "layout_mismatch" for KVF_LAYOUT_MISMATCH; "unknown" for numbers of newer releases. */
const char* kvf_error_name(int code);

/* Lines go to standard error: "trace", "debug", "info", "warn", "error" (the default, or what the
 * environment's KVFERRY_LOG names), "critical", "off". */
int kvf_log_level(const char* level);

/* ---- Memory -------------------------------------------------------------------------------- */

enum {
    KVF_HOST_PRIVATE = 1, /* any memory of the process: reached over the network */
    KVF_HOST_SHARED = 2,  /* a memfd, sealed against shrinking: peers of this machine map it */
    KVF_CUDA = 3          /* memory on any device of the process */
};

/* One stretch of cache memory. It must outlive the worker that publishes it; when its stop was not
 * proven, the process. Memory of kvf_memory_new is held by the worker. */
typedef struct kvf_region {
    uint32_t size;
    uint32_t kind; /* KVF_HOST_PRIVATE ... */
    void* base;
    uint64_t bytes;
    int32_t memfd; /* KVF_HOST_SHARED: the memfd, mapped at `base` from its first byte on; else
                      unused */
    uint32_t reserved;
} kvf_region;

/* Cache memory that peers of this machine can map, for hosts that let kvferry allocate it. */
typedef struct kvf_memory kvf_memory;

enum {
    KVF_MEMORY_PREFAULT = 1 /* all pages now: a shortage is an error here, not a signal later */
};

/* `name` is for people (/proc/<pid>/maps). Rounded up to whole pages, in huge ones where the
 * machine has enough in reserve. */
int kvf_memory_new(const char* name, uint64_t bytes, uint32_t flags, kvf_memory** memory);
/* On a CUDA device. KVF_UNSUPPORTED: there is none of this number, or none at all, or the library
 * was built without CUDA; KVF_REGISTRATION_FAILED: it has not as much left. */
int kvf_memory_new_on_device(int32_t device, uint64_t bytes, kvf_memory** memory);
/* What to publish. `base` and `memfd` are valid until the memory is freed. */
int kvf_memory_region(kvf_memory* memory, kvf_region* region);
/* Unmapped at once, or when the last worker that publishes it is proven done with it. */
int kvf_memory_free(kvf_memory* memory);

/* ---- Pages: what lies where ------------------------------------------------------------------ */

/* A rank's place in its instance: rank = (pp_rank * tp_size + tp_rank) * cp_size + cp_rank. */
typedef struct kvf_parallelism {
    uint32_t size;
    uint32_t tp_size, tp_rank; /* a size of 0 is 1 */
    uint32_t pp_size, pp_rank;
    uint32_t cp_size, cp_rank;
    uint32_t attention_dp; /* 0: none; else attention weights are replicated, and requests split
                            * over groups of so many TP ranks */
    uint32_t world_size;   /* ranks of the instance; 0: tp_size * pp_size * cp_size */
    uint32_t stages;       /* entries of layers_per_stage: pp_size */
    const uint32_t* layers_per_stage;
} kvf_parallelism;

/* The page table of one rank: pools (memory in slots of one size), layer groups (layers whose
 * blocks share one list of slots) and views (which bytes of a slot are which layers' K, V, latent,
 * state). An address is pool base + slot * slot_stride_bytes + entry offset. */
typedef struct kvf_pages kvf_pages;

/* kvf_model.attention */
enum { KVF_GQA = 0, KVF_MLA = 1 };

/* Order of a layer's bytes in a slot: a head is one stretch; the same on all ranks; a head is one
 * stretch per token; sections that are split each by itself. */
enum { KVF_HND = 0, KVF_REPLICATED = 1, KVF_NHD = 2, KVF_SECTIONED = 3 };

/* The whole model, before it is split. */
typedef struct kvf_model {
    uint32_t size;
    uint32_t layers;
    uint32_t first_layer;   /* global id of the first of them */
    uint32_t kv_heads;      /* unused for KVF_MLA */
    uint32_t head_dim;      /* elements of one head, or of the latent */
    uint32_t element_bytes; /* 0: 2 */
    uint32_t tokens_per_block;
    uint32_t attention;       /* KVF_GQA, KVF_MLA */
    uint32_t order;           /* KVF_HND, KVF_NHD */
    uint32_t window_tokens;   /* sliding window of all layers; 0: full attention */
    const char* element_type; /* compared with the peer's, never converted; NULL: "bf16" */
} kvf_model;

/* One pool of `slots` slots at the start of region 0. A slot holds one block of all layers of the
 * rank's stage: [layer][K, V][head][token][dim], for KVF_NHD [layer][K, V][token][head][dim], for
 * KVF_MLA [layer][token][latent]. */
int kvf_pages_from_model(const kvf_model* model, const kvf_parallelism* place, uint32_t slots,
                         kvf_pages** pages);

/* One tensor of a cache, as an engine's framework describes it. Its dimensions are named one by
 * one, in the order of its shape: "kv" (K and V), "layer", "block" (what slots count), "token" (of
 * a block, or of all blocks without "block"), "head" (of this rank), "dim" (elements of a head, of
 * a latent; always there), "inner" (inside "dim", of states only). "kv block token head dim" is
 * vLLM's FlashAttention, "block token dim" an MLA latent, "token head dim" SGLang, "block head dim
 * inner" a Mamba state. */
typedef struct kvf_tensor {
    uint32_t size;
    uint32_t dimensions; /* entries of shape and strides */
    const char* name;    /* for errors */
    const void* base; /* the element whose indexes are all 0; an address of the device for CUDA */
    const char* dims; /* names, with blanks between */
    const int64_t* shape;
    const int64_t* strides; /* in elements; NULL: dense, the last dimension innermost */
    const char*
        element_type; /* "bf16", "torch.bfloat16", "float8_e4m3fn": compared, never converted */
    const uint32_t* layers;   /* global ids: one, or one for each index of "layer" */
    const char* role;         /* "key", "value", "ssm"; NULL with "kv", which has both */
    const uint64_t* sections; /* sizes along "dim" of what is split over ranks each by itself */
    uint32_t layer_count;
    uint32_t section_count;
    uint32_t element_bytes;    /* 0: as the type says */
    uint32_t group;            /* tensors of a group are listed by one list of slots per request */
    uint32_t heads;            /* of the whole model; 0: all ranks hold the same bytes */
    uint32_t window_tokens;    /* 0: full attention */
    uint32_t tokens_per_block; /* of tensors without "block" or "token" that are no states */
    uint32_t reserved;
    uint32_t tokens_per_row; /* of a compressed cache: tokens that one index of "token" stands for;
                              * 0: 1 */
    uint32_t flags;          /* KVF_TOKENS_ARE_DEALT */
} kvf_tensor;

enum {                          /* kvf_tensor.flags */
       KVF_TOKENS_ARE_DEALT = 1 /* CP ranks deal out tokens one by one: index i of CP rank r is
                                   token i * cp_size + r */
};

/* The memory that tensors lie in, ascending; what shares memory is one region. Sets base and bytes
 * alone. *count: room in `regions`, becomes what was needed; KVF_LIMIT_EXCEEDED when that is more.
 */
int kvf_tensors_regions(const kvf_tensor* tensors, size_t tensor_count, kvf_region* regions,
                        size_t* count);

/* The pages of a rank with these tensors, in these regions. A refusal names the tensor and what to
 * do. */
int kvf_pages_from_tensors(const kvf_tensor* tensors, size_t tensor_count,
                           const kvf_parallelism* place, const kvf_region* regions,
                           size_t region_count, kvf_pages** pages);

typedef struct kvf_pool {
    uint32_t size;
    uint32_t region;              /* index into the regions that are published with the pages */
    uint64_t region_offset_bytes; /* where slot 0 begins */
    uint64_t slot_bytes;
    uint64_t slot_stride_bytes; /* >= slot_bytes, unless all slots of one layer lie together */
    uint32_t slots;
    uint32_t reserved;
    uint64_t bytes; /* answered: from slot 0 to the end of the last slot, in the region */
} kvf_pool;

typedef struct kvf_group {
    uint32_t size;
    uint32_t layer_count;
    const uint32_t* layers;   /* global ids; views count from 0 in this list */
    uint32_t tokens_per_slot; /* tokens of one block; 0: recurrent state, one slot per request */
    uint32_t window_tokens;   /* 0: full attention */
} kvf_group;

/* One stretch of bytes of one layer in a slot: K, or V, or the latent. */
typedef struct kvf_entry {
    uint32_t size;
    uint32_t layer;        /* index into kvf_group.layers */
    uint64_t offset_bytes; /* from the start of the slot */
    uint64_t bytes;
} kvf_entry;

typedef struct kvf_view {
    uint32_t size;
    uint32_t pool;  /* index that kvf_pages_add_pool gave */
    uint32_t order; /* KVF_HND ... */
    uint32_t role_count;
    const char* const* roles;   /* {"key", "value"}, {"indexer_k"}: views with equal roles meet */
    uint32_t shards, shard;     /* which part of the model's heads; `shards` of 0 is 1 */
    uint32_t replicas, replica; /* of how many equal ones; `replicas` of 0 is 1 */
    uint64_t unit_bytes;        /* smallest part: one head of one block; 0: cannot be split */
    const uint64_t* section_bytes; /* KVF_SECTIONED: sizes of the sections */
    const uint32_t* element_shape; /* of one row; compared with the peer's */
    uint32_t section_count;
    uint32_t element_rank;
    const char* element_type; /* compared with the peer's */
    const kvf_entry* entries; /* sorted by offset; each layer's lie together */
    uint64_t entry_count;
} kvf_view;

int kvf_pages_new(kvf_pages** pages);
int kvf_pages_add_pool(kvf_pages* pages, const kvf_pool* pool, uint32_t* index);
int kvf_pages_add_group(kvf_pages* pages, const kvf_group* group, uint32_t* index);
int kvf_pages_add_view(kvf_pages* pages, uint32_t group, const kvf_view* view);
/* Reads pool `index`; KVF_INVALID_ARGUMENT behind the last. */
int kvf_pages_pool(kvf_pages* pages, uint32_t index, kvf_pool* pool);
int kvf_pages_free(kvf_pages* pages);

/* ---- Workers --------------------------------------------------------------------------------- */

typedef struct kvf_worker kvf_worker;

enum { KVF_ROUTE_BEST = 0, KVF_ROUTE_MAPPED = 1, KVF_ROUTE_DIRECT = 2, KVF_ROUTE_STAGED = 3 };

enum {
    KVF_NO_SAME_HOST_LINK = 1, /* peers of this machine are treated like any others */
    KVF_DIGESTS = 2,           /* every piece that has come is read again and compared with what its
                                * writer has read */
    KVF_NO_INFO_SERVER = 4,    /* no rank-info server and no port: the host carries the infos of all
                                * ranks (kvf_worker_info, kvf_worker_add_instance); info_endpoint is
                                * NULL on all of them */
    KVF_INSECURE = 8,          /* whoever reaches a port is served; otherwise a rank that others can
                                * reach needs a secret */
    KVF_PLAIN_BULK = 16,  /* with a secret: bytes of pages are neither encrypted nor checked once
                           * their connection has shown it; both sides must say so */
    KVF_RELAY = 32,       /* ranks of one machine that need the same bytes of another one let one of
                           * them receive the bytes and hand them on; its pages are released when the
                           * others have theirs, so decode on the outcome, not on the release */
    KVF_WIRE_DIGESTS = 64 /* what comes as messages is compared while it is placed, if its writer
                           * has this, too */
};

/* What the instance is listed for. */
enum { KVF_ROLE_ANY = 0, KVF_ROLE_CONTEXT = 1, KVF_ROLE_GENERATION = 2 };

/* Where instances are listed by name: etcd, over its JSON gateway, through libcurl. Rank 0 lists
 * its instance there, and kvf_source.endpoint may be "etcd:name". NULL in a field: what the
 * environment says (KVFERRY_ETCD, KVFERRY_ETCD_PREFIX, ...), else as told here. */
typedef struct kvf_directory {
    uint32_t size;
    uint32_t lease_seconds;    /* a listing lives so long without its rank 0; 0: 10 */
    const char* endpoints;     /* "http://host:port" or "https://host:port" of the members, with
                                * commas between; else none: no directory */
    const char* prefix;        /* in front of all keys; else "/kvferry/" */
    const char* ca_file;       /* who signed etcd's certificate; else the system's authorities */
    const char* cert_file;     /* what this process shows etcd; else nothing */
    const char* key_file;      /* its key */
    const char* user;          /* who asks, where etcd has users */
    const char* password_file; /* with the user's password; nobody else may read it */
} kvf_directory;

typedef struct kvf_worker_options {
    uint32_t size;
    uint32_t flags;       /* KVF_NO_SAME_HOST_LINK ... */
    const char* instance; /* name, the same on all ranks of the instance */
    const kvf_parallelism* place;
    const char* bind_address;     /* UCX uses the network device with this address. Rank 0: its
                                   * rank-info server listens there; NULL: 127.0.0.1 */
    const char* info_endpoint;    /* other ranks: "host:port" of rank 0's server; rank 0: NULL */
    const char* advertise;        /* "host" or "host:port" under which others reach this rank, where
                                   * that is not bind_address */
    const char* fingerprint;      /* what bytes do not show (model, revision, kernels): peers with
                                   * another text are refused; NULL: not compared */
    const char* host_link_folder; /* where the same-host socket is offered as a file as well, for
                                   * containers with a common volume; NULL: nowhere */
    uint32_t port;                /* of rank 0's server; 0: any free one */
    uint32_t route;               /* KVF_ROUTE_BEST ... */
    const int32_t* devices;       /* CUDA devices that copy though the rank has no memory there */
    uint32_t device_count;
    uint32_t multiprocessors;     /* of a device, that copies may take; 0: 32 */
    uint32_t sessions_max;        /* live ones in each direction; 0: 65,536 */
    uint32_t events_max;          /* see kvf_worker_events; 0: 262,144 */
    int64_t session_deadline_ms;  /* from open to the first piece; 0: 60,000 */
    int64_t transfer_deadline_ms; /* from there to the outcome; 0: 60,000 */
    int64_t info_deadline_ms;     /* one question to a rank-info server; 0: 5,000 */
    int64_t stop_deadline_ms;     /* of kvf_worker_free; 0: 10,000 */
    uint32_t copy_threads; /* that copy between host memory, and as many that move bytes over TCP,
                            * unless it is 1; 0: one for every four processors, at most 8 */
    uint32_t reserved;
    int64_t session_age_max_ms;       /* see kvf_session_extend; 0: 3,600,000 */
    int64_t session_keep_interval_ms; /* so often a receiving session without slots tells its
                                       * writers that it is wanted; 0: 5,000 */
    const char* secret_file; /* with the secret that all ranks of a deployment share; NULL: where
                              * KVFERRY_SECRET_FILE says, else none: then only processes of this
                              * user on this machine are served */
    const kvf_directory* directory; /* NULL: all as the environment says */
    uint32_t role;                  /* KVF_ROLE_ANY ... */
    uint32_t reserved_2;
} kvf_worker_options;

typedef struct kvf_statistics {
    uint32_t size;
    uint32_t reserved;
    uint64_t sessions_opened;
    uint64_t sessions_finished;
    uint64_t sessions_live;
    uint64_t sessions_quarantined; /* with an outcome, without proof: their slots are on loan */
    uint64_t links_live;
    uint64_t events_waiting;   /* in the queue */
    uint64_t handler_failures; /* bugs of kvferry */
    uint64_t sessions_succeeded;
    uint64_t waited_ns;           /* of those, added up: from the opening to the first piece, */
    uint64_t transferred_ns;      /* and from there to the outcome */
    uint64_t sessions_failed[32]; /* by the number of their reason (KVF_...) */
} kvf_statistics;

/* Starts the threads of a rank. The first worker of a process also starts those that its workers
 * share, which end with the last. */
int kvf_worker_start(const kvf_worker_options* options, kvf_worker** worker);

/* Registers the memory and publishes the rank, once until it is withdrawn. Blocks, at most twice
 * info_deadline_ms plus the start of the devices that the memory lies on. Sessions may be opened
 * afterwards. */
int kvf_worker_publish(kvf_worker* worker, const kvf_region* regions, size_t region_count,
                       kvf_pages* pages);

/* Takes the memory back (sleep, resize, another role); other pages may be published afterwards.
 * Blocks until no session is left: KVF_DEADLINE_EXCEEDED names one that is, and nothing has changed
 * then. KVF_NOT_PROVEN as in kvf_worker_stop; after any other error the worker has stopped. */
int kvf_worker_unpublish(kvf_worker* worker, int64_t deadline_ms);

/* "host:port" under which other instances, and ranks > 0 of this one, find the worker's instance.
 * *bytes: room in `text`, becomes what was needed, with the 0 at the end; KVF_LIMIT_EXCEEDED when
 * that is more. */
int kvf_worker_endpoint(kvf_worker* worker, char* text, size_t* bytes);

/* How writers of this machine will reach a region that is published, by its index, before any has
 * tried: "mapped", or "direct: ...", "staged: ..." with the reason for the longer way. `text` and
 * `bytes` as in kvf_worker_endpoint. Since 1.5. Blocks for one round trip through the rank. */
int kvf_worker_memory_route(kvf_worker* worker, uint32_t region, char* text, size_t* bytes);

/* For hosts that carry the infos of ranks over a channel of their own, with or without servers on
 * either side. This rank's info, as it was published last; another one after each publish. *bytes:
 * room in `info`, becomes what was needed; KVF_LIMIT_EXCEEDED when that is more. Whoever has it can
 * dial the rank. Blocks for one round trip through the rank. */
int kvf_worker_info(kvf_worker* worker, void* info, size_t* bytes);

typedef struct kvf_bytes {
    uint32_t size;
    uint32_t reserved;
    const void* data;
    uint64_t bytes;
} kvf_bytes;

/* All ranks of an instance, from the kvf_worker_info of each, in any order. The same instance again
 * takes the place of what was known: so a restarted rank is made known. A rank without a server
 * needs the infos of its own instance as well, unless it is alone. `address` becomes what
 * kvf_source.endpoint is to be, "@instance"; `bytes` as in kvf_worker_endpoint; both may be NULL.
 * Refused, with the number of the info: KVF_MALFORMED_MESSAGE, KVF_PROTOCOL_MISMATCH (another
 * release), KVF_DUPLICATE (a rank twice), KVF_INSTANCE_INCOMPLETE (ranks are missing),
 * KVF_LAYOUT_MISMATCH. Nothing has changed then. */
int kvf_worker_add_instance(kvf_worker* worker, const kvf_bytes* infos, size_t count, char* address,
                            size_t* bytes);
/* Forgets it; sessions with it go on. */
int kvf_worker_remove_instance(kvf_worker* worker, const char* address);

/* Lists the instance for something else (KVF_ROLE_...) from now on; sessions go on.
 * KVF_UNSUPPORTED: it is not listed anywhere, or this is not rank 0. */
int kvf_worker_set_role(kvf_worker* worker, uint32_t role);

/* Blocks for one round trip through the rank. */
int kvf_worker_statistics(kvf_worker* worker, kvf_statistics* statistics);

/* Ends the rank: cancels its sessions and says goodbye to peers; a drain lets sessions end first
 * that have met their peer. Both block, at most deadline_ms and a little. KVF_NOT_PROVEN names what
 * cannot be proven quiet. Events can be taken afterwards. */
int kvf_worker_stop(kvf_worker* worker, int64_t deadline_ms);
int kvf_worker_drain(kvf_worker* worker, int64_t deadline_ms);

/* Frees the worker, its sessions and its event descriptor. Blocks while it stops a worker that
 * still runs: call kvf_worker_stop before, which says how that went. */
int kvf_worker_free(kvf_worker* worker);

/* ---- Events ---------------------------------------------------------------------------------- */

typedef struct kvf_session kvf_session;

enum {
    KVF_EVENT_READY = 1,    /* tx: every receiver rank has asked */
    KVF_EVENT_PIECE = 2,    /* a send, send_aux or receive has ended by itself */
    KVF_EVENT_OUTCOME = 3,  /* once: the session has ended */
    KVF_EVENT_RELEASED = 4, /* once, behind the outcome: its slots are the host's again */
    KVF_EVENT_LAYERS = 5    /* rx, before the outcome: the first layers are here. The newest stands
                             * for those before it */
};

enum { /* kvf_event.state, kvf_outcome.state */
       KVF_STATE_PENDING = 0,
       KVF_STATE_KV_TRANSFERRED = 3,
       KVF_STATE_FULLY_TRANSFERRED = 4, /* with the aux record */
       KVF_STATE_ERROR = 5,
       KVF_STATE_CANCELLED = 6
};

typedef struct kvf_event {
    uint32_t size;
    uint32_t kind; /* KVF_EVENT_... */
    kvf_session* session;
    uint64_t user; /* kvf_session_options.user */
    uint64_t rid;
    int32_t code;        /* OUTCOME and PIECE: KVF_OK, or why it failed */
    uint32_t state;      /* OUTCOME: KVF_STATE_... */
    uint32_t piece;      /* PIECE: which send or receive, counted from 0. LAYERS: all layers below
                          * this global id are written; UINT32_MAX: all */
    uint32_t aux;        /* PIECE: 1 for send_aux */
    uint64_t bytes;      /* OUTCOME: written by this rank (tx), into it (rx) */
    uint64_t elapsed_ns; /* since the session was opened */
    char text[256];      /* why it failed, cut; kvf_session_outcome has all of it */
} kvf_event;

/* A descriptor that is readable while events wait: for poll and event loops. Never read, write or
 * close it; it is closed by kvf_worker_free. */
int kvf_worker_event_fd(kvf_worker* worker, int* fd);

/* Takes up to `max` events, in order; *count of them were there. `events` is an array: the size of
 * its first element is the distance between elements. Never blocks.
 *
 * Events are never dropped. Every session holds places for those that it is to give, from its
 * opening until they are taken; with events_max places held, opening a session is refused
 * (KVF_LIMIT_EXCEEDED), and so is a piece where pieces are told. */
int kvf_worker_events(kvf_worker* worker, kvf_event* events, size_t max, size_t* count);

/* Blocks until an event waits (KVF_OK), at most timeout_ms (KVF_DEADLINE_EXCEEDED; -1: for ever).
 */
int kvf_worker_wait(kvf_worker* worker, int64_t timeout_ms);

/* ---- Sessions -------------------------------------------------------------------------------- */

enum {                      /* kvf_session_options.flags */
       KVF_AUX = 1,         /* success needs the aux record, on both sides */
       KVF_TELL_READY = 2,  /* KVF_EVENT_READY is wanted */
       KVF_TELL_PIECES = 4, /* KVF_EVENT_PIECE is wanted */
       KVF_ALLOW_MISSING_LAYERS =
           8, /* rx: layers and roles that the context does not have stay as */
       KVF_ALLOW_MISSING_ROLES =
           16,               /* they are; otherwise such a session ends in LAYOUT_MISMATCH */
       KVF_TELL_LAYERS = 32, /* rx: KVF_EVENT_LAYERS is wanted */
       /* How urgent its bytes are wherever they wait for others': at most one of the three. Classes
        * share by bytes as 16 : 4 : 1, and none starves. None of them: rx normal, tx as its
        * receivers ask. */
       KVF_PRIORITY_HIGH = 64,
       KVF_PRIORITY_LOW = 128,
       KVF_PRIORITY_NORMAL = 256
};

typedef struct kvf_session_options {
    uint32_t size;
    uint32_t flags;
    uint64_t rid;                 /* names the request, on both sides alike: less than 2^63 */
    uint64_t user;                /* the host's: comes back in every event of the session */
    int64_t deadline_ms;          /* from open to the first piece; 0: the worker's */
    int64_t transfer_deadline_ms; /* from there to the outcome; 0: the worker's */
} kvf_session_options;

typedef struct kvf_source {
    uint32_t size;
    int32_t dp_rank;      /* which DP group runs the request; 0 without attention DP, -1: not known,
                           * the first that answers is it */
    const char* endpoint; /* of the context instance: "host:port" (kvf_worker_endpoint),
                           * "@instance" (kvf_worker_add_instance), or "etcd:instance"
                           * (kvf_directory) */
} kvf_source;

/* A session that cannot be opened is one that ends at once: the reason is its outcome. Only wrong
 * arguments, a full event queue and fork are refused here. */
int kvf_worker_open_tx(kvf_worker* worker, const kvf_session_options* options,
                       kvf_session** session);
int kvf_worker_open_rx(kvf_worker* worker, const kvf_session_options* options,
                       const kvf_source* source, kvf_session** session);

/* Makes the links to the ranks of a context instance that this rank receives from, before the first
 * request has to wait for them. Blocks until they are ready. */
int kvf_worker_connect(kvf_worker* worker, const kvf_source* source, int64_t deadline_ms);

#define KVF_NO_SLOT                                                                                \
    (-1) /* a block that is not there: prefix of the receiver, outside the window                  \
          */

/* The slots of one layer group: slots[i] holds block first_block + i. Of a group of recurrent
 * state: the request's one slot. */
typedef struct kvf_slots {
    uint32_t size;
    uint32_t first_block;
    const int32_t* slots;
    uint64_t count;
} kvf_slots;

typedef struct kvf_slice {
    uint32_t size;
    uint32_t token_begin, token_end; /* the tokens it is about: [begin, end) of the prompt */
    uint32_t prompt_tokens;          /* length of the whole prompt */
    uint32_t more;                   /* 1: further slices follow; 0: it is the last */
    uint32_t group_count;
    const kvf_slots* groups; /* an array: one for each layer group of the pages, in their order */
    /* With devices, both may be NULL (cudaEvent_t). They live until the piece has ended; of a piece
     * that is received by a session that fails, until KVF_EVENT_RELEASED. */
    void* wait_for;  /* nothing is read, or written on the receiving side, before it has happened */
    void* completed; /* sending: recorded behind the last read */
    /* Sending: the global layers it is about, [begin, end), so that a layer travels while the next
     * is computed; both 0: all. In any order; the last slice fails when one is missing. */
    uint32_t layer_begin, layer_end;
} kvf_slice;

/* Lends the slice's slots until KVF_EVENT_RELEASED. KVF_GONE: the session has its outcome already,
 * as it may at any time after its opening; nothing is lent, and the outcome says why. */
int kvf_session_send(kvf_session* session, const kvf_slice* slice);
int kvf_session_receive(kvf_session* session, const kvf_slice* slice);

/* The small record that goes with a request. */
typedef struct kvf_aux {
    uint32_t size;
    uint32_t prompt_tokens;
    uint32_t cached_tokens;
    uint32_t reserved;
    const int32_t* first_tokens; /* last generated token of each beam */
    uint64_t first_token_count;
    const int32_t* draft_tokens; /* speculative tokens */
    uint64_t draft_token_count;
    const void* opaque; /* whatever else the two hosts agree on */
    uint64_t opaque_bytes;
} kvf_aux;

/* At most once, in a session with KVF_AUX. */
int kvf_session_send_aux(kvf_session* session, const kvf_aux* aux);

/* What the receivers of a sending session want, once KVF_EVENT_READY has come; before, all that
 * follows `size` is zero. */
typedef struct kvf_wanted {
    uint32_t size;
    uint32_t receivers; /* ranks that want KV bytes */
    uint32_t prompt_tokens;
    uint32_t prefix_tokens; /* which all of them have already: nothing before is wanted */
    uint64_t blocks;        /* of all ranks, each in blocks of its own size */
} kvf_wanted;

int kvf_session_wanted(kvf_session* session, kvf_wanted* wanted);

/* For leases that a scheduler renews: the session does not end by itself before so many ms have
 * passed, whichever of its two deadlines runs; one that is later stays. The other side has
 * deadlines of its own, which its host extends; but while a receiving session has been opened and
 * has no slots yet, the sending one lives on (session_keep_interval_ms). KVF_GONE: it has its
 * outcome. KVF_LIMIT_EXCEEDED: it would be older than session_age_max_ms then; nothing has changed.
 */
int kvf_session_extend(kvf_session* session, int64_t by_ms);

/* Slots that somebody may still read (tx) or write (rx): slots[i] of layer group groups[i]. Before
 * the outcome all that were lent, from KVF_EVENT_RELEASED on none. After a failure these are the
 * slots in doubt. *count: room in both arrays, becomes what was needed; KVF_LIMIT_EXCEEDED when
 * that is more. KVF_HANDLER_FAILED, KVF_STOPPED, KVF_NOT_PROVEN: nobody can say it, all that were
 * lent are. Blocks for one round trip through the rank. */
int kvf_session_slots_in_doubt(kvf_session* session, uint32_t* groups, int32_t* slots,
                               size_t* count);

/* Gives the session up; no error when it has ended. `why` may be NULL. */
int kvf_session_cancel(kvf_session* session, const char* why);

/* Blocks until the event of this kind has happened (KVF_EVENT_OUTCOME, KVF_EVENT_RELEASED), for
 * hosts without an event loop; at most timeout_ms (KVF_DEADLINE_EXCEEDED; -1: for ever).
 * KVF_NOT_PROVEN: the worker has stopped, and the release will never come. The event is queued all
 * the same. */
int kvf_session_wait(kvf_session* session, uint32_t kind, int64_t timeout_ms);

typedef struct kvf_outcome {
    uint32_t size;
    uint32_t state; /* KVF_STATE_PENDING: there is none yet, and all that follows is zero */
    int32_t code;
    uint32_t released; /* 1: the slots are the host's again */
    uint32_t peers;    /* for kvf_session_peer */
    uint32_t layers_skipped_count;
    const char* text; /* why it failed; "" after success */
    uint64_t bytes;
    uint64_t fragments;
    const uint32_t* layers_skipped; /* global layers that the context did not have */
    const char* roles_skipped;      /* likewise, with commas between */
} kvf_outcome;

/* What the pointers in `outcome`, `peer` and `aux` lead to lives until kvf_session_free. */
int kvf_session_outcome(kvf_session* session, kvf_outcome* outcome);

typedef struct kvf_peer {
    uint32_t size;
    uint32_t rank; /* of the other instance */
    uint64_t bytes;
    uint64_t fragments;
    uint64_t posting_ns; /* tx: from taking a slice to its first byte */
    const char* route;   /* for people: "mapped", "direct: ..." with the reason for a worse one */
    uint32_t digests;    /* rx: pieces that were compared (KVF_DIGESTS) */
    uint32_t reserved;
    uint32_t way; /* KVF_ROUTE_MAPPED ...; 0: it had no bytes to bring */
    uint32_t reserved_2;
} kvf_peer;

int kvf_session_peer(kvf_session* session, uint32_t index, kvf_peer* peer);

/* rx with KVF_AUX, after its outcome: the record that came. */
int kvf_session_aux(kvf_session* session, kvf_aux* aux);

/* For people: what the session waits for, and who must act. Blocks for one round trip through the
 * rank. `text` and `bytes` as in kvf_worker_endpoint. */
int kvf_session_waits_for(kvf_session* session, char* text, size_t* bytes);

/* Frees the handle; events of the session that were not taken are dropped. The session itself goes
 * on: free it behind KVF_EVENT_RELEASED, or nobody learns when its slots are free. */
int kvf_session_free(kvf_session* session);

#ifdef __cplusplus
}
#endif

#endif

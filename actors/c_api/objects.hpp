// SPDX-License-Identifier: Apache-2.0
// What stands behind the host's handles.
#pragma once

#include "actors/c_api/event_queue.hpp"
#include "actors/c_api/handles.hpp"
#include "actors/c_api/kvferry.h"
#include "actors/c_api/session_teller.hpp"
#include "actors/kvferry.hpp"

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>

namespace kvferry::c_api {

struct c_memory {
    /// As it is published; `kind` is KVF_HOST_SHARED or KVF_CUDA.
    kvf_region region = {};
    /// What owns it, shared with the workers that publish it.
    std::shared_ptr<const void> owner;
};

struct c_pages {
    std::mutex mutex;
    page_table table;
};

struct c_worker {
    c_worker(std::shared_ptr<runtime> shared, worker started, std::shared_ptr<event_queue> queue,
             std::chrono::milliseconds at_most)
        : system(std::move(shared)), rank(std::move(started)), events(std::move(queue)),
          stop_deadline(at_most) {}

    std::shared_ptr<runtime> system;
    worker rank;
    std::shared_ptr<event_queue> events;
    const std::chrono::milliseconds stop_deadline;
};

struct c_session {
    /// Which worker it is of: compared, never followed.
    const c_worker* of = nullptr;
    std::shared_ptr<session_teller> teller;
    /// Held while the session is opened and in every call that drives it.
    std::mutex mutex;
    std::variant<std::monostate, tx_handle, rx_handle> handle;
    /// What kvf_outcome points to.
    std::string error_text;
    std::string roles_skipped;
};

/// Never destroyed: what is left in them at the end of the process has threads.
handle_table<kvf_memory, c_memory>& memories();
handle_table<kvf_pages, c_pages>& all_pages();
handle_table<kvf_worker, c_worker>& workers();
handle_table<kvf_session, c_session>& sessions();

/// A wait: -1 for ever.
std::optional<std::chrono::milliseconds> patience_of(std::int64_t milliseconds, const char* name);

/// A deadline: 0 for the default, which comes out as none.
std::optional<std::chrono::milliseconds> deadline_of(std::int64_t milliseconds, const char* name);

parallelism place_of(const kvf_parallelism&);

} // namespace kvferry::c_api

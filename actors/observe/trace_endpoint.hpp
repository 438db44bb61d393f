// SPDX-License-Identifier: Apache-2.0
// Where `kvferry trace record`, `why` and `top` look into a running process: a unix socket in a
// folder of its user. It is not on the network, and other users cannot connect.
#pragma once

#include "actors/host/worker.hpp"
#include "messages/errors.hpp"
#include "messages/trace/trace_format.hpp"
#include "transport/loop/accept.hpp"

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace kvferry {

/// Owns a thread, which sleeps while no client is connected. One per process; it shows all ranks of
/// the process.
///
/// A client sends one line and gets a recording (trace_format.hpp):
/// - "record": what happens from now on, until the client closes its sending side;
/// - "why RID": the ranks, their sessions of that request, then what the rings hold;
/// - "sessions": the ranks and all their sessions.
/// A recorder gets something at least every `trace_beat`, so that silence means a frozen process.
class trace_endpoint {
public:
    /// Returns what the ranks of this process say of one request, or of all; called on the
    /// endpoint's thread.
    using ask_ranks = std::function<std::vector<trace::session_record>(std::optional<rid>)>;

    /// KVFERRY_TRACE_DIR, else "kvferry" in XDG_RUNTIME_DIR, else "kvferry-<user id>" among the
    /// system's temporary files.
    static std::string default_folder();

    /// Listens at FOLDER/<name>-<process id>.<mark>.sock (process_files.hpp).
    /// system_call_failed names the path; invalid_argument when the folder belongs to somebody else
    /// or is open to others.
    static caf::expected<std::unique_ptr<trace_endpoint>>
    start(const std::string& name, const std::string& folder, std::vector<trace::rank_record> ranks,
          ask_ranks);

    /// Ends all recordings and removes the socket. Destroy it before the ranks that it asks stop.
    ~trace_endpoint();
    trace_endpoint(const trace_endpoint&) = delete;
    trace_endpoint& operator=(const trace_endpoint&) = delete;

    const std::string& path() const { return path_; }

private:
    struct client;

    trace_endpoint(std::string name, std::string path, unique_fd listener, unique_fd stop,
                   std::vector<trace::rank_record> ranks, ask_ranks);

    void run();
    void serve(client&);
    void begin(client&, const std::string& question);

    std::string name_;
    std::string path_;
    poll_door door_;
    unique_fd stop_;
    std::vector<trace::rank_record> ranks_;
    ask_ranks ask_;
    std::list<client> clients_;
    std::thread thread_;
};

/// Longest silence towards a recorder.
inline constexpr std::chrono::milliseconds trace_beat{200};

/// The worker's rank as others find it. Asks the worker, which must be published.
caf::expected<trace::rank_record> trace_rank(const worker&);

/// What the sessions of this worker, called `rank`, wait for: those of one request, or all. Takes
/// at most `trace_answer`.
std::vector<trace::session_record> trace_sessions(const worker&, const std::string& rank,
                                                  std::optional<rid>);
inline constexpr std::chrono::milliseconds trace_answer{500};

} // namespace kvferry

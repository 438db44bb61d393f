// SPDX-License-Identifier: Apache-2.0
// What the orchestrator and a side tell each other: one JSON object per line, {"kind", "body"}.
//
// The orchestrator stands for the router of a serving system: it knows prompts and requests and
// moves no KV. Instants are nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace kvferry::demo {

/// The line carries no first token: it travels another way.
inline constexpr std::int64_t no_token = -1;

// -- to a side ------------------------------------------------------------------------------

struct start_side {
    static constexpr const char* kind = "start";
    std::string instance; ///< "context" or "generation"
    std::uint32_t tp_size = 1;
    std::uint32_t pp_size = 1;
    bool attention_dp = false;
    std::string model;
    bool latent = false;
    std::uint32_t window = 0;
    std::uint32_t tokens_per_block = 0;
    std::uint32_t slots = 0; ///< blocks of every rank's pool
    std::string route;
    std::string memory = "host"; ///< of the pools that transfers see: "host" or "cuda"
    bool aux = false;
    std::uint32_t deadline_seconds = 0;
    std::string trace;  ///< folder for a recording; empty: none
    bool crash = false; ///< die in the middle of the first request
};

/// Context: prefill, then send.
struct prefill_request {
    static constexpr const char* kind = "prefill";
    std::uint64_t rid = 0;
    std::uint32_t dp_rank = 0; ///< under attention DP: the DP group that runs the request
    std::vector<std::uint8_t> prompt;
};

/// Generation: receive, then decode.
struct receive_request {
    static constexpr const char* kind = "receive";
    std::uint64_t rid = 0;
    std::uint32_t prompt_tokens = 0;
    std::uint32_t new_tokens = 0;
    std::uint32_t dp_rank = 0;
    std::string context_endpoint;
    std::uint32_t context_dp_rank = 0;
    std::int64_t first_token = no_token; ///< no_token: it arrives as aux
    bool flip_a_bit = false;
};

/// Context: the receiving side has failed; end the sessions that it told nothing about.
struct abandon_request {
    static constexpr const char* kind = "abandon";
    std::uint64_t rid = 0;
    std::string failure;
};

/// Measure how long one thread needs to copy as many bytes in as many scattered pieces.
struct compare_copy {
    static constexpr const char* kind = "compare";
    std::uint64_t bytes = 0;
    std::uint64_t pieces = 0;
};

struct stop_side {
    static constexpr const char* kind = "stop";
};

// -- from a side ----------------------------------------------------------------------------

struct rank_share {
    std::uint32_t first_layer = 0;
    std::uint32_t layer_count = 0;
    std::uint32_t first_head = 0;
    std::uint32_t head_count = 0;
    std::uint64_t pool_bytes = 0;
};

struct side_started {
    static constexpr const char* kind = "started";
    std::string info_endpoint;
    std::string transports;
    std::vector<rank_share> ranks;
};

struct side_progress {
    static constexpr const char* kind = "progress";
    std::uint64_t rid = 0;
    std::string what;
    std::uint64_t done = 0;
    std::uint64_t of = 0;
};

struct request_prefilled {
    static constexpr const char* kind = "prefilled";
    std::uint64_t rid = 0;
    std::int64_t first_token = no_token;
    std::uint64_t digest = 0;
    double seconds = 0;
};

/// receive() was called on every rank.
struct receive_posted {
    static constexpr const char* kind = "posted";
    std::uint64_t rid = 0;
};

/// What one context rank sent to one generation rank.
struct arrival {
    std::uint32_t from = 0;
    std::uint32_t to = 0;
    std::uint64_t bytes = 0;
    std::uint64_t pieces = 0;
    std::string route;
};

/// Outcome of the sessions on all generation ranks and, after success, their release.
struct request_received {
    static constexpr const char* kind = "received";
    std::uint64_t rid = 0;
    std::string failure; ///< empty: success
    std::int64_t receive_at = 0;
    std::int64_t released_at = 0;
    std::vector<arrival> arrivals;
};

struct request_decoded {
    static constexpr const char* kind = "decoded";
    std::uint64_t rid = 0;
    std::int64_t first_token = no_token;
    std::vector<std::uint32_t> tokens; ///< all tokens but the first
    std::uint64_t digest = 0;          ///< of the prompt's KV, taken before the first decode
    double seconds = 0;
};

/// Outcome and release of the sessions on all context ranks.
struct request_sent {
    static constexpr const char* kind = "sent";
    std::uint64_t rid = 0;
    std::string failure;
    std::int64_t send_at = 0;
    std::vector<std::uint32_t> idle; ///< ranks that carried no KV
};

struct copy_compared {
    static constexpr const char* kind = "compared";
    std::uint64_t bytes = 0;
    std::uint64_t pieces = 0;
    double seconds = 0;
};

struct side_stopped {
    static constexpr const char* kind = "stopped";
    std::vector<std::string> unproven;
};

/// The side cannot continue; `why` gives the reason.
struct side_failed {
    static constexpr const char* kind = "failed";
    std::string why;
};

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(start_side, instance, tp_size, pp_size, attention_dp, model,
                                   latent, window, tokens_per_block, slots, route, memory, aux,
                                   deadline_seconds, trace, crash)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(prefill_request, rid, dp_rank, prompt)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(receive_request, rid, prompt_tokens, new_tokens, dp_rank,
                                   context_endpoint, context_dp_rank, first_token, flip_a_bit)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(abandon_request, rid, failure)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(compare_copy, bytes, pieces)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(rank_share, first_layer, layer_count, first_head, head_count,
                                   pool_bytes)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(side_started, info_endpoint, transports, ranks)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(side_progress, rid, what, done, of)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(request_prefilled, rid, first_token, digest, seconds)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(receive_posted, rid)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(arrival, from, to, bytes, pieces, route)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(request_received, rid, failure, receive_at, released_at,
                                   arrivals)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(request_decoded, rid, first_token, tokens, digest, seconds)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(request_sent, rid, failure, send_at, idle)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(copy_compared, bytes, pieces, seconds)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(side_stopped, unproven)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(side_failed, why)

// Written by hand: the macro cannot handle a struct without members.
inline void to_json(nlohmann::json& out, const stop_side&) {
    out = nlohmann::json::object();
}
inline void from_json(const nlohmann::json&, stop_side&) {}

/// One line with its newline. Invalid UTF-8 is replaced.
template <class Message>
std::string encode(const Message& message) {
    const nlohmann::json line{{"kind", Message::kind}, {"body", message}};
    return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

/// Calls the handler of a line's kind.
class line_handlers {
public:
    template <class Message>
    void on(std::function<void(Message)> handler) {
        handlers_[Message::kind] = [handler = std::move(handler)](const nlohmann::json& body) {
            handler(body.get<Message>());
        };
    }

    /// Throws std::runtime_error with the line in its text when the line is not a known message.
    /// Exceptions of handlers pass through.
    void handle(std::string_view line) const;

private:
    std::map<std::string, std::function<void(const nlohmann::json&)>, std::less<>> handlers_;
};

} // namespace kvferry::demo

// SPDX-License-Identifier: Apache-2.0
// One batch at a time: sent, refused for good, or kept for the next try.
#include "actors/spans/span_sender.hpp"

#include "actors/http/http_client.hpp"
#include "actors/spans/span_bodies.hpp"
#include "actors/spans/spans_target.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/threads.hpp"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <pthread.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace kvferry {

namespace {

std::mutex& senders_mutex() {
    static auto& mutex = *new std::mutex; // ranks may end after static objects
    return mutex;
}

std::weak_ptr<span_sender>& sender_of_process() {
    static auto& shared = *new std::weak_ptr<span_sender>;
    return shared;
}

} // namespace

struct span_sender::state {
    std::string url;
    http_client http;
    std::shared_ptr<span_queue> queue = std::make_shared<span_queue>();
    std::vector<session_span> batch = {};
    /// The last try failed.
    bool away = false;
    std::mutex mutex = {};
    std::condition_variable changed = {};
    bool stops = false;
    std::thread thread = {};

    state(std::string to, http_client client) : url(std::move(to)), http(std::move(client)) {}

    void run() {
        ::pthread_setname_np(::pthread_self(), "kvferry-spans");
        auto rest = period;
        for (bool last = false; !last;) {
            {
                std::unique_lock lock{mutex};
                last = changed.wait_for(lock, rest, [this] { return stops; });
            }
            fill();
            while (!batch.empty() && send() && !last)
                fill();
            rest = away ? std::min(2 * rest, longest_rest) : period;
        }
        std::size_t left = batch.size();
        for (session_span span; queue->take(span);)
            ++left;
        queue->count_dropped(left);
    }

    void fill() {
        for (session_span span; batch.size() < batch_max && queue->take(span);)
            batch.push_back(std::move(span));
    }

    /// False: the batch is to be tried again.
    bool send() {
        auto answer =
            http.post(url, body_of(batch, static_cast<std::uint32_t>(::getpid())), call_max);
        const auto status = answer ? answer->status : 0;
        if (status / 100 == 2) {
            queue->count_sent(batch.size());
            batch.clear();
            if (std::exchange(away, false))
                logger().info("spans: {} takes them again; {} were dropped", url, queue->dropped());
            return true;
        }
        const auto problem =
            answer ? "it answers " + std::to_string(status) + ": " + answer->body.substr(0, 300)
                   : describe(answer.error());
        const bool refused =
            status / 100 == 4 && status != 429 && status != 408; // others mean: later
        if (!std::exchange(away, true))
            logger().error("spans: {} does not take them, which costs no transfer anything: {}",
                           url, problem);
        if (!refused)
            return false;
        queue->count_dropped(batch.size());
        batch.clear();
        return true;
    }
};

span_sender::span_sender(std::unique_ptr<state> x) : state_(std::move(x)) {}

span_sender::~span_sender() {
    {
        std::lock_guard lock{state_->mutex};
        state_->stops = true;
    }
    state_->changed.notify_all();
    if (state_->thread.joinable())
        state_->thread.join();
}

caf::expected<std::shared_ptr<span_sender>> span_sender::at(const std::string& endpoint) {
    auto url = spans_target(endpoint);
    if (!url)
        return std::move(url.error());
    std::lock_guard lock{senders_mutex()};
    if (auto known = sender_of_process().lock()) {
        if (known->state_->url == *url)
            return known;
        return make_error(errc::invalid_argument,
                          "this process sends its spans to {} already, not to {}: all its ranks "
                          "share one sender",
                          known->state_->url, *url);
    }
    const auto* authority = std::getenv("KVFERRY_SPANS_CA_FILE");
    auto http = http_client::make({authority ? authority : "", {}, {}});
    if (!http)
        return std::move(http.error());
    std::shared_ptr<span_sender> made{
        new span_sender{std::make_unique<state>(std::move(*url), std::move(*http))}};
    auto thread = make_thread("spans", [self = made->state_.get()] { self->run(); });
    if (!thread)
        return std::move(thread.error());
    made->state_->thread = std::move(*thread);
    sender_of_process() = made;
    return made;
}

const std::shared_ptr<span_queue>& span_sender::queue() const {
    return state_->queue;
}

} // namespace kvferry

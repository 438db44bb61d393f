// SPDX-License-Identifier: Apache-2.0
// The copy actor of one device: a GPU or its host twin.
#include "cuda/cuda_io.hpp"

#include "cuda/waiting_copies.hpp"
#include "messages/local/copies.hpp"
#include "messages/local/devices.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/trace/operations.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <sys/eventfd.h>

namespace kvferry {

namespace {

struct cuda_io_state : loop_poller {
    static inline constexpr const char* name = "cuda_io";

    struct dependencies {
        io_loop* loop;
        std::shared_ptr<std::unique_ptr<copy_device>> device; // the state takes it over
        std::shared_ptr<unique_fd> event;                     // likewise
        cuda_io_options options;
    };

    cuda_io_state(device_actor::pointer self, dependencies with)
        : self_(self), loop_(with.loop), options_(with.options), event_(std::move(*with.event)),
          device_(std::move(*with.device)), device_name_(device_->name()),
          schedule_(with.options.schedule) {}
    cuda_io_state(const cuda_io_state&) = delete;
    cuda_io_state& operator=(const cuda_io_state&) = delete;
    ~cuda_io_state() override { leave_loop(); }

    device_actor::behavior_type make_behavior();

    caf::result<void> on_start_copy(const start_copy&);
    caf::result<void> on_cancel_transfer(const cancel_transfer&);
    caf::result<void> on_stop_io(const stop_io&);
    caf::result<device_region_exported> on_export(const export_device_region&);
    caf::result<void> on_pin(const pin_host_region&);
    caf::result<peer_regions_mapped> on_map(const map_peer_regions&);
    caf::result<void> on_unmap(const unmap_region&);
    caf::result<void> on_await_event(const await_event&);

    // -- loop_poller
    bool progress() override;
    int event_fd() override { return event_.get(); }
    bool arm() override {
        return schedule_.chunks_in_flight() == 0 && held_.empty() && awaited_.empty();
    }

private:
    struct active {
        start_copy command;
        std::unique_ptr<uploaded_plan> plan;
        /// Why the transfer ends early; none so far.
        caf::error stopped_by;
        time_point began;
    };

    /// A region that this device can address on behalf of a peer.
    struct mapping {
        memory_region region;
        /// For host memory: the host's mapping that it relies on, and the pinned address.
        std::shared_ptr<const void> below;
        std::byte* pinned = nullptr;
        /// For memory on a device: where it is mapped.
        std::byte* mapped = nullptr;
    };

    bool admit_held();
    bool answer_awaited();
    void give_up_waiting(const caf::error&);
    caf::expected<mapped_region> map_one(const map_peer_regions&, std::uint32_t index);
    void close(const mapping&);
    void pump();
    void admit(start_copy);
    void launch(const copy_chunk&);
    void stop_transfer(transfer_id, caf::error);
    void finish_if_over(transfer_id);
    void lose_device(const caf::error&);
    void finish(const start_copy&, agent_result, std::uint64_t bytes, caf::error, time_point began,
                std::optional<plan_digest> digest = {});
    void refuse(const start_copy&, caf::error);
    void on_stop_deadline();
    void leave_loop();
    time_point now() { return self_->clock().now(); }

    device_actor::pointer self_;
    io_loop* loop_;
    cuda_io_options options_;
    unique_fd event_; // never readable: an idle device has no events
    std::unique_ptr<copy_device> device_;
    std::string device_name_;
    std::map<transfer_id, active> active_; // their plans must go before the device
    copy_schedule schedule_;
    waiting_copies waiting_;
    /// Copies whose event has not happened yet.
    std::vector<start_copy> held_;
    /// Questions about events that have not happened yet.
    struct awaited {
        await_event asked;
        caf::typed_response_promise<void> answer;
    };
    std::vector<awaited> awaited_;
    std::map<std::uint64_t, mapping> mappings_;
    std::uint64_t last_mapping_ = 0;
    std::vector<std::uint64_t> ended_;
    caf::error lost_;
    bool polled_ = false;
    bool stopping_ = false;
    bool last_stop_sent_ = false;
    std::vector<caf::typed_response_promise<void>> stopped_;
};

device_actor::behavior_type cuda_io_state::make_behavior() {
    if (auto error = device_->enter_thread())
        lose_device(error);
    else if (auto refused = loop_->add(*this))
        lose_device(refused);
    else
        polled_ = true;
    return {
        handle(this, &cuda_io_state::on_start_copy),
        handle(this, &cuda_io_state::on_cancel_transfer),
        handle(this, &cuda_io_state::on_stop_io),
        handle(this, &cuda_io_state::on_export),
        handle(this, &cuda_io_state::on_pin),
        handle(this, &cuda_io_state::on_map),
        handle(this, &cuda_io_state::on_unmap),
        handle(this, &cuda_io_state::on_await_event),
    };
}

// -- commands -------------------------------------------------------------------------------

/// Why a job cannot be executed. The planner has already checked the memory behind its addresses.
caf::error check(const start_copy& command) {
    const auto& job = command.job;
    if (command.read_only && !command.digest)
        return make_error(errc::plan_invalid, "nothing is to be written and nothing added up");
    if (!job.plan)
        return make_error(errc::plan_invalid, "a copy without a plan");
    for (const auto& part : job.plan->parts)
        if (!part.layout || part.source_pool >= job.source_pools.size()
            || part.target_pool >= job.target_pools.size())
            return make_error(errc::plan_invalid, "a copy from pool {} of {} to pool {} of {}",
                              part.source_pool, job.source_pools.size(), part.target_pool,
                              job.target_pools.size());
    return {};
}

caf::result<void> cuda_io_state::on_start_copy(const start_copy& command) {
    record_io(self_, trace::instant::io_begin, trace::device_copy, command.id.value,
              command.job.plan ? command.job.plan->bytes : 0);
    if (stopping_)
        refuse(command, make_error(errc::stopped, "{} is stopping", device_name_));
    else if (lost_)
        refuse(command, lost_);
    else if (auto error = check(command))
        refuse(command, std::move(error));
    else if (waiting_.size() + held_.size() >= options_.transfers_waiting_max)
        refuse(command,
               make_error(errc::limit_exceeded, "transfers_waiting_max = {} copies wait for {}",
                          options_.transfers_waiting_max, device_name_));
    else if (command.events.wait_for)
        held_.push_back(command); // progress() looks at its event
    else {
        waiting_.add(command);
        pump();
    }
    return {};
}

caf::result<void> cuda_io_state::on_cancel_transfer(const cancel_transfer& message) {
    stop_transfer(message.id, make_error(errc::cancelled, "transfer {} was cancelled", message.id));
    pump();
    return {};
}

/// Called again when the last transfer has ended, by a message of the actor to itself: an actor can
/// only quit in a handler.
caf::result<void> cuda_io_state::on_stop_io(const stop_io&) {
    auto answer = self_->make_response_promise<void>();
    stopped_.push_back(answer);
    if (!std::exchange(stopping_, true)) {
        const auto why = make_error(errc::stopped, "{} is stopping", device_name_);
        for (auto& command : waiting_.take_all())
            refuse(command, why);
        for (auto& command : std::exchange(held_, {}))
            refuse(command, why);
        give_up_waiting(why);
        std::vector<transfer_id> ids;
        for (const auto& [id, x] : active_)
            ids.push_back(id);
        for (auto id : ids)
            stop_transfer(id, why);
        if (!active_.empty())
            self_->run_delayed(options_.stop_deadline, [this] { on_stop_deadline(); });
    }
    if (active_.empty()) {
        for (auto& [id, x] : std::exchange(mappings_, {}))
            close(x);
        leave_loop();
        for (auto& promise : std::exchange(stopped_, {}))
            promise.deliver();
        self_->quit();
    }
    return answer;
}

/// The device hangs. Keeps the memory that it may still use: freeing it would wait for the device,
/// or take memory away while the device uses it.
void cuda_io_state::on_stop_deadline() {
    if (active_.empty())
        return;
    logger().error("{}: launches have not ended at the stop's deadline; their memory is kept",
                   device_name_);
    [[maybe_unused]] auto* kept = device_.release();
    lose_device(
        make_error(errc::deadline_exceeded, "launches have not ended at the stop's deadline"));
}

/// Stops a transfer. Does nothing when it is unknown or over.
void cuda_io_state::stop_transfer(transfer_id id, caf::error why) {
    auto command = waiting_.take(id);
    if (const auto found = std::find_if(held_.begin(), held_.end(),
                                        [id](const start_copy& x) { return x.id == id; });
        !command && found != held_.end()) {
        command = std::move(*found);
        held_.erase(found);
    }
    if (command)
        return refuse(*command, std::move(why));
    auto found = active_.find(id);
    if (found == active_.end())
        return;
    if (!schedule_.is_over(id) && !found->second.stopped_by) {
        found->second.stopped_by = std::move(why);
        schedule_.stop(id);
    }
    finish_if_over(id);
}

/// progress() looks at the event. More than can wait are refused: each look costs a call.
caf::result<void> cuda_io_state::on_await_event(const await_event& message) {
    if (lost_ || stopping_)
        return lost_ ? lost_ : make_error(errc::stopped, "{} is stopping", device_name_);
    if (awaited_.size() >= options_.events_awaited_max)
        return make_error(errc::limit_exceeded,
                          "events_awaited_max = {} events are waited for at {}",
                          options_.events_awaited_max, device_name_);
    auto answer = self_->make_response_promise<void>();
    awaited_.push_back({message, answer});
    return answer;
}

// -- memory ---------------------------------------------------------------------------------

caf::result<device_region_exported> cuda_io_state::on_export(const export_device_region& message) {
    if (lost_)
        return lost_;
    auto how = device_->export_region(message.base, message.bytes);
    if (!how)
        return add_context(how.error(), device_name_);
    return device_region_exported{std::move(how->how), std::move(how->chunks)};
}

/// Pins memory for the life of the actor; the device unpins it when it goes.
caf::result<void> cuda_io_state::on_pin(const pin_host_region& message) {
    if (lost_)
        return lost_;
    if (auto error = device_->pin(message.base, message.bytes))
        return add_context(error, device_name_);
    return caf::unit;
}

caf::result<peer_regions_mapped> cuda_io_state::on_map(const map_peer_regions& message) {
    peer_regions_mapped result;
    for (std::uint32_t index = 0; index < message.regions.size(); ++index) {
        auto mapped = map_one(message, index);
        if (mapped)
            result.mapped.push_back(std::move(*mapped));
        else
            result.obstacles.emplace(index, device_name_ + ": " + text_of(mapped.error()));
    }
    return result;
}

caf::expected<mapped_region> cuda_io_state::map_one(const map_peer_regions& message,
                                                    std::uint32_t index) {
    const auto& region = message.regions[index];
    if (lost_ || stopping_)
        return lost_ ? lost_ : make_error(errc::stopped, "it is stopping");
    mapping made{region, nullptr, nullptr};
    mapped_region result{index, nullptr, region.bytes, nullptr, options_.ordinal};
    if (region.kind == memory_kind::cuda) {
        const auto chunks = message.chunks.find(index);
        auto address =
            device_->map(region, chunks == message.chunks.end() ? device_chunks{} : chunks->second);
        if (!address)
            return std::move(address.error());
        result.base = made.mapped = *address;
    } else {
        auto host = std::find_if(message.by_host.begin(), message.by_host.end(),
                                 [index](const mapped_region& x) { return x.region == index; });
        if (host == message.by_host.end())
            return make_error(errc::unsupported, "the host has not mapped it either");
        if (auto error = device_->pin(host->base, host->bytes))
            return error;
        result.base = made.pinned = host->base;
        result.bytes = host->bytes;
        made.below = host->mapping;
    }
    const auto id = ++last_mapping_;
    mappings_.emplace(id, std::move(made));
    result.mapping = std::shared_ptr<const void>(this, [to = device_actor{self_}, id](const void*) {
        tell_from_outside(to, unmap_region{id});
    });
    return result;
}

caf::result<void> cuda_io_state::on_unmap(const unmap_region& message) {
    if (auto found = mappings_.extract(message.mapping))
        close(found.mapped());
    return caf::unit;
}

void cuda_io_state::close(const mapping& x) {
    if (!device_ || lost_)
        return; // a lost device takes no calls
    if (x.pinned)
        device_->unpin(x.pinned);
    else
        device_->unmap(x.region, x.mapped);
}

// -- to the device --------------------------------------------------------------------------

/// Gives the device as much as it may have.
void cuda_io_state::pump() {
    const auto most = options_.transfers_active_max;
    while (!lost_ && !waiting_.empty() && active_.size() < most)
        admit(waiting_.take_next());
    while (!lost_ && waiting_.has(priority::high) && active_.size() < most + most / 4)
        admit(waiting_.take_next(priority::high));
    while (!lost_) {
        auto chunk = schedule_.next();
        if (!chunk)
            break;
        launch(*chunk);
    }
}

void cuda_io_state::admit(start_copy command) {
    const auto id = command.id;
    if (active_.count(id) > 0)
        return refuse(command, make_error(errc::duplicate, "transfer {} is under way", id));
    caf::expected<std::unique_ptr<uploaded_plan>> plan{std::unique_ptr<uploaded_plan>{}};
    try {
        plan = device_->upload(command.job, {!command.read_only, command.digest});
    } catch (const std::exception& thrown) { // length or memory: the transfer must still end
        plan = make_error(errc::limit_exceeded, "transfer {}: {}", id, thrown.what());
    }
    if (!plan) {
        refuse(command, add_context(plan.error(), "transfer {}", id));
        if (auto error = device_->lost())
            lose_device(error);
        return;
    }
    const auto& view = (*plan)->plan;
    if (view.unit_count == 0)
        return finish(command, agent_result::success, 0, {}, now(), std::move((*plan)->digest));
    schedule_.add(id, view, command.of);
    active_.emplace(id, active{std::move(command), std::move(*plan), {}, now()});
}

void cuda_io_state::launch(const copy_chunk& chunk) {
    auto& x = active_.at(chunk.id);
    auto error =
        device_->launch(*x.plan, chunk.first_unit, chunk.unit_count, chunk.lane, chunk.number);
    if (!error) {
        auto* event = x.command.events.completed;
        if (event && schedule_.is_launched(chunk.id) && !x.stopped_by)
            x.stopped_by = device_->record(chunk.lane, event);
        return;
    }
    schedule_.not_launched(chunk.number);
    if (!x.stopped_by)
        x.stopped_by = add_context(error, "transfer {}", chunk.id);
    if (auto lost = device_->lost())
        return lose_device(lost);
    finish_if_over(chunk.id);
}

// -- from the device ------------------------------------------------------------------------

bool cuda_io_state::progress() {
    const bool answered = answer_awaited();
    const bool admitted = admit_held() || answered;
    if (lost_ || schedule_.chunks_in_flight() == 0)
        return admitted;
    ended_.clear();
    if (auto error = device_->take_ended(ended_)) {
        lose_device(error);
        return true;
    }
    if (ended_.empty())
        return admitted;
    for (auto number : ended_)
        finish_if_over(schedule_.ended(number).id);
    pump();
    return true;
}

bool cuda_io_state::answer_awaited() {
    bool changed = false;
    for (std::size_t i = 0; i < awaited_.size() && !lost_;) {
        auto& asked = awaited_[i].asked;
        auto happened = asked.wanted.expired()
                            ? make_error(errc::cancelled, "nobody waits for the event any more")
                            : device_->has_happened(asked.event);
        if (happened && !*happened) {
            ++i;
            continue;
        }
        auto answer = std::move(awaited_[i].answer);
        awaited_.erase(awaited_.begin() + static_cast<std::ptrdiff_t>(i));
        changed = true;
        if (happened) {
            answer.deliver();
            continue;
        }
        answer.deliver(add_context(happened.error(), device_name_));
        if (auto error = device_->lost())
            lose_device(error);
    }
    return changed;
}

void cuda_io_state::give_up_waiting(const caf::error& why) {
    for (auto& x : std::exchange(awaited_, {}))
        x.answer.deliver(why);
}

/// Queues held copies whose event has happened.
bool cuda_io_state::admit_held() {
    bool changed = false;
    for (std::size_t i = 0; i < held_.size() && !lost_;) {
        auto happened = device_->has_happened(held_[i].events.wait_for);
        if (happened && !*happened) {
            ++i;
            continue;
        }
        auto command = std::move(held_[i]);
        held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(i));
        changed = true;
        if (happened) {
            waiting_.add(std::move(command));
            continue;
        }
        refuse(command, add_context(happened.error(), "transfer {}", command.id));
        if (auto error = device_->lost())
            lose_device(error);
    }
    if (changed)
        pump();
    return changed;
}

void cuda_io_state::finish_if_over(transfer_id id) {
    if (!schedule_.is_over(id))
        return;
    auto x = active_.extract(id);
    const auto bytes = schedule_.bytes_done(id);
    schedule_.remove(id);
    auto& done = x.mapped();
    auto digest = done.stopped_by ? std::nullopt : std::move(done.plan->digest);
    done.plan.reset();
    finish(done.command, done.stopped_by ? agent_result::failed : agent_result::success, bytes,
           done.stopped_by, done.began, std::move(digest));
}

void cuda_io_state::lose_device(const caf::error& why) {
    if (lost_)
        return;
    lost_ = make_error(errc::cuda_failed, "{} is lost, restart the process: {}", device_name_,
                       text_of(why));
    logger().error("{}", text_of(lost_));
    for (auto& [id, x] : std::exchange(active_, {}))
        finish(x.command, schedule_.in_flight(id) ? agent_result::in_doubt : agent_result::failed,
               schedule_.bytes_done(id), lost_, x.began);
    schedule_ = copy_schedule{options_.schedule};
    for (auto& command : waiting_.take_all())
        refuse(command, lost_);
    for (auto& command : std::exchange(held_, {}))
        refuse(command, lost_);
    give_up_waiting(lost_);
    tell(self_, options_.owner, device_lost{options_.ordinal, lost_});
}

// -- ends -----------------------------------------------------------------------------------

void cuda_io_state::refuse(const start_copy& command, caf::error why) {
    finish(command, agent_result::failed, 0, std::move(why), now());
}

void cuda_io_state::finish(const start_copy& command, agent_result result, std::uint64_t bytes,
                           caf::error error, time_point began, std::optional<plan_digest> digest) {
    record_io(self_, trace::instant::io_end, trace::device_copy, command.id.value, bytes);
    transfer_done done{command.id, result, bytes, std::move(error), began, now()};
    done.digest = std::move(digest);
    tell(self_, command.reply_to, std::move(done));
    if (stopping_ && active_.empty() && !std::exchange(last_stop_sent_, true))
        tell(self_, device_actor{self_}, stop_io{});
}

void cuda_io_state::leave_loop() {
    if (std::exchange(polled_, false))
        loop_->remove(*this);
}

} // namespace

caf::expected<device_actor> spawn_cuda_io(caf::actor_system& system, io_loop& loop,
                                          std::unique_ptr<copy_device> device,
                                          cuda_io_options options) {
    unique_fd event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (!event)
        return system_error(errc::system_call_failed, "eventfd", "raise the limit of descriptors");
    return spawn_at<device_actor, cuda_io_state>(
        system, placement{&loop},
        cuda_io_state::dependencies{
            &loop, std::make_shared<std::unique_ptr<copy_device>>(std::move(device)),
            std::make_shared<unique_fd>(std::move(event)), options});
}

} // namespace kvferry

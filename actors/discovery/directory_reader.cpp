// SPDX-License-Identifier: Apache-2.0
// A name that is not there yet is looked for again until its asker's time is over.
#include "actors/discovery/directory_reader.hpp"

#include "messages/trace/handle.hpp"
#include "messages/values/error_format.hpp"

#include <caf/stateful_actor.hpp>

#include <algorithm>
#include <utility>

namespace kvferry {

namespace {

constexpr std::chrono::milliseconds shortest_wait{20};
constexpr std::chrono::milliseconds longest_wait{500};

} // namespace

directory_reader_state::directory_reader_state(directory_reader_actor::pointer self,
                                               dependencies with)
    : self_(self), with_(std::move(with)), wait_(shortest_wait) {}

directory_reader_actor::behavior_type directory_reader_state::make_behavior() {
    return {handle(this, &directory_reader_state::on_find)};
}

caf::result<instance_found> directory_reader_state::on_find(const find_instance& message) {
    auto answer = self_->make_response_promise<instance_found>();
    askers_.push_back({message.name, message.until, answer});
    if (!will_look_) {
        wait_ = shortest_wait;
        look();
    }
    return answer;
}

void directory_reader_state::look() {
    auto found = with_.directory->all();
    if (found) {
        forget_all_but(found->listings);
        answer_from(found->listings);
    } else if (!known_.empty()) { // what was there goes on
        std::vector<instance_listing> known;
        for (const auto& [name, listing] : known_)
            known.push_back(listing);
        answer_from(known);
    }
    end_late(found ? caf::error{} : found.error());
    look_again();
}

void directory_reader_state::forget_all_but(const std::vector<instance_listing>& all) {
    std::erase_if(known_, [&](const auto& known) {
        return std::none_of(all.begin(), all.end(),
                            [&](const instance_listing& x) { return x.name == known.first; });
    });
}

void directory_reader_state::answer_from(const std::vector<instance_listing>& all) {
    std::erase_if(askers_, [&](asker& each) {
        const auto found = std::find_if(
            all.begin(), all.end(), [&](const instance_listing& x) { return x.name == each.name; });
        if (found == all.end())
            return false;
        remember(*found);
        each.answer.deliver(instance_found{*found});
        return true;
    });
}

void directory_reader_state::end_late(const caf::error& reason) {
    const auto now = self_->clock().now();
    std::erase_if(askers_, [&](asker& each) {
        if (now < each.until)
            return false;
        each.answer.deliver(reason
                                ? add_context(reason, "instance '{}'", each.name)
                                : make_error(errc::instance_incomplete,
                                             "{} lists no instance '{}': start it, then ask again",
                                             with_.directory->who(), each.name));
        return true;
    });
}

void directory_reader_state::look_again() {
    if (askers_.empty())
        return;
    const auto first =
        std::min_element(askers_.begin(), askers_.end(),
                         [](const asker& a, const asker& b) { return a.until < b.until; });
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(first->until - self_->clock().now());
    will_look_ = true;
    self_->run_delayed(std::min(wait_, left), [this] {
        will_look_ = false;
        look();
    });
    wait_ = std::min(2 * wait_, longest_wait);
}

void directory_reader_state::remember(const instance_listing& listing) {
    if (known_.size() >= with_.names_max && !known_.contains(listing.name))
        known_.erase(known_.begin());
    known_[listing.name] = listing;
}

directory_reader_actor spawn_directory_reader(caf::actor_system& system,
                                              directory_reader_state::dependencies with) {
    return system.spawn<caf::stateful_actor<directory_reader_state, directory_reader_actor::impl>,
                        caf::detached>(std::move(with));
}

} // namespace kvferry

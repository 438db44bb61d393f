// SPDX-License-Identifier: Apache-2.0
// Questions as JSON; 64-bit numbers and bytes are texts there.
#include "actors/discovery/etcd_directory.hpp"

#include "actors/discovery/base64.hpp"
#include "actors/discovery/listing_text.hpp"
#include "actors/http/http_client.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "messages/values/time.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace kvferry {

namespace {

using json = nlohmann::json;

/// Listings that are read at a time.
constexpr int listings_max = 4096;

/// The first key behind all that begin like this one.
std::string behind(std::string prefix) {
    while (!prefix.empty() && static_cast<unsigned char>(prefix.back()) == 0xff)
        prefix.pop_back();
    if (!prefix.empty())
        prefix.back() = static_cast<char>(static_cast<unsigned char>(prefix.back()) + 1);
    return prefix;
}

std::chrono::milliseconds until_then(time_point then) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(then - clock::now());
}

bool says(const http_client::answer& x, std::string_view words) {
    return x.body.find(words) != x.body.npos;
}

/// A token has ended, users or rights have changed behind it, or etcd asks for one since a while.
bool asks_for_login(const http_client::answer& x) {
    return x.status == 401
           || (x.status == 400
               && (says(x, "user name is empty") || says(x, "invalid auth token")
                   || says(x, "revision of auth store is old")));
}

} // namespace

struct etcd_directory::state {
    directory_options options;
    std::vector<std::string> members;
    std::string prefix;
    std::string who;
    http_client http;
    /// The member that answered last.
    std::size_t current = 0;
    /// The client shows a token of the user, or etcd asks for none.
    bool logged_in = false;

    caf::error named(const caf::error& reason) const { return add_context(reason, who); }

    /// dial_failed: perhaps another member answers.
    caf::error log_in(std::chrono::milliseconds within) {
        auto password = read_password(options);
        if (!password)
            return std::move(password.error());
        http.authorize({});
        const json question{{"name", options.user}, {"password", *password}};
        auto answer =
            http.post(members[current] + "/v3/auth/authenticate",
                      question.dump(-1, ' ', false, json::error_handler_t::replace), within);
        if (!answer)
            return std::move(answer.error());
        if (answer->status / 100 == 2) {
            const auto said = json::parse(answer->body, nullptr, false);
            http.authorize(said.is_object() ? said.value("token", std::string{}) : std::string{});
        } else if (!says(*answer, "authentication is not enabled")) {
            return make_error(answer->status / 100 == 5 ? errc::dial_failed : errc::foreign_peer,
                              "it refuses user '{}' with the password in {}: {}", options.user,
                              options.password_file, answer->body.substr(0, 300));
        }
        logged_in = true;
        return {};
    }

    /// One question to the current member, in the user's name.
    caf::expected<http_client::answer> post(const std::string& path, const std::string& question,
                                            std::chrono::milliseconds within) {
        const auto until = clock::now() + within;
        for (bool again = false;; again = true) {
            if (!options.user.empty() && !logged_in)
                if (auto problem = log_in(until_then(until)))
                    return problem;
            auto answer = http.post(members[current] + path, question, until_then(until));
            if (again || options.user.empty() || !answer || !asks_for_login(*answer))
                return answer;
            logged_in = false;
        }
    }

    caf::error refusal(const std::string& path, const http_client::answer& x) const {
        const auto said = x.body.substr(0, 300);
        if (options.user.empty() && asks_for_login(x))
            return make_error(errc::foreign_peer,
                              "{} answers {}: {}; name a user and a file with its password "
                              "(KVFERRY_ETCD_USER, KVFERRY_ETCD_PASSWORD_FILE)",
                              path, x.status, said);
        if (x.status == 403 || asks_for_login(x))
            return make_error(errc::foreign_peer,
                              "{} answers {}: {}; give user '{}' a role that may read and write "
                              "below '{}'",
                              path, x.status, said, options.user, prefix);
        return make_error(errc::transfer_failed, "{} answers {}: {}", path, x.status, said);
    }

    /// One question, to one member after the other. A member without a leader answers 5xx.
    caf::expected<json> ask(const std::string& path, const json& question) {
        const auto until = clock::now() + call_max;
        caf::error last;
        for (std::size_t tried = 0; tried < members.size(); ++tried) {
            const auto share = until_then(until) / static_cast<int>(members.size() - tried);
            auto answer = post(path, question.dump(), share);
            if (answer && answer->status / 100 == 2)
                return parsed(answer->body);
            last = answer ? refusal(path, *answer) : std::move(answer.error());
            const auto other_may_answer =
                answer ? answer->status / 100 == 5 : code_of(last) == errc::dial_failed;
            if (!other_may_answer)
                break;
            current = (current + 1) % members.size();
        }
        return named(last);
    }

    caf::expected<json> parsed(const std::string& body) const {
        auto result = json::parse(body, nullptr, false);
        if (!result.is_object())
            return named(
                make_error(errc::malformed_message, "it answers with '{}'", body.substr(0, 300)));
        return result;
    }

    std::string key_of(std::string_view name) const { return prefix + std::string{name}; }

    std::optional<instance_listing> listing_in(const json& entry) const {
        const auto key = from_base64(entry.value("key", std::string{}));
        const auto value = from_base64(entry.value("value", std::string{}));
        if (!key || !value || !key->starts_with(prefix))
            return std::nullopt;
        auto result = listing_from(std::string_view{*key}.substr(prefix.size()), *value);
        if (!result) {
            logger().warn("{}: {}", who, describe(result.error()));
            return std::nullopt;
        }
        return std::move(*result);
    }
};

etcd_directory::etcd_directory(std::unique_ptr<state> x) : state_(std::move(x)) {}
etcd_directory::etcd_directory(etcd_directory&&) noexcept = default;
etcd_directory::~etcd_directory() = default;

caf::expected<etcd_directory> etcd_directory::make(const directory_options& options) {
    if (auto problem = check(options))
        return problem;
    auto members = members_of(options);
    if (!members)
        return std::move(members.error());
    auto http = http_client::make({options.ca_file, options.cert_file, options.key_file});
    if (!http)
        return std::move(http.error());
    return etcd_directory{
        std::make_unique<state>(state{options, std::move(*members), options.prefix,
                                      "etcd at " + options.endpoints, std::move(*http)})};
}

caf::expected<etcd_directory::lease_id> etcd_directory::grant(std::chrono::seconds ttl) {
    auto answer = state_->ask("/v3/lease/grant", {{"TTL", std::to_string(ttl.count())}});
    if (!answer)
        return std::move(answer.error());
    auto id = answer->value("ID", std::string{});
    if (id.empty())
        return state_->named(make_error(errc::malformed_message, "a lease without an id"));
    return id;
}

caf::expected<bool> etcd_directory::renew(const lease_id& lease) {
    auto answer = state_->ask("/v3/lease/keepalive", {{"ID", lease}});
    if (!answer)
        return std::move(answer.error());
    const auto result = answer->value("result", json::object());
    return result.is_object() && result.value("TTL", std::string{"0"}) != "0";
}

caf::error etcd_directory::revoke(const lease_id& lease) {
    auto answer = state_->ask("/v3/lease/revoke", {{"ID", lease}});
    return answer ? caf::error{} : std::move(answer.error());
}

caf::expected<std::optional<instance_listing>> etcd_directory::put(const instance_listing& listing,
                                                                   const lease_id& lease) {
    auto answer = state_->ask("/v3/kv/put", {{"key", to_base64(state_->key_of(listing.name))},
                                             {"value", to_base64(text_of(listing))},
                                             {"lease", lease},
                                             {"prev_kv", true}});
    if (!answer)
        return std::move(answer.error());
    const auto former = answer->value("prev_kv", json::object());
    return former.is_object() && !former.empty() ? state_->listing_in(former) : std::nullopt;
}

caf::expected<etcd_directory::snapshot> etcd_directory::all() {
    auto answer = state_->ask("/v3/kv/range", {{"key", to_base64(state_->prefix)},
                                               {"range_end", to_base64(behind(state_->prefix))},
                                               {"limit", listings_max}});
    if (!answer)
        return std::move(answer.error());
    snapshot result;
    try {
        result.revision = std::stoll(answer->at("header").at("revision").get<std::string>());
        for (const auto& entry : answer->value("kvs", json::array()))
            if (auto listing = state_->listing_in(entry))
                result.listings.push_back(std::move(*listing));
    } catch (const std::exception& problem) {
        return state_->named(make_error(errc::malformed_message, "{}", problem.what()));
    }
    return result;
}

caf::error etcd_directory::watch(std::int64_t behind_revision,
                                 const std::function<bool()>& changed) {
    const json wanted{{"key", to_base64(state_->prefix)},
                      {"range_end", to_base64(behind(state_->prefix))},
                      {"start_revision", std::to_string(behind_revision + 1)}};
    std::string unread;
    auto lost = state_->http.follow(
        state_->members[state_->current] + "/v3/watch", json{{"create_request", wanted}}.dump(),
        [&](std::string_view part) {
            unread += part;
            bool told = false;
            for (auto end = unread.find('\n'); end != unread.npos; end = unread.find('\n')) {
                const auto line = json::parse(unread.substr(0, end), nullptr, false);
                unread.erase(0, end + 1);
                told = told
                       || (line.is_object() && line.contains("result")
                           && line["result"].contains("events"));
            }
            return !told || changed();
        });
    return lost ? state_->named(lost) : caf::error{};
}

const std::string& etcd_directory::who() const {
    return state_->who;
}

} // namespace kvferry

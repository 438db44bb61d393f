// SPDX-License-Identifier: Apache-2.0
// libcurl by its name, when it is first needed: nothing of kvferry depends on it otherwise.
#include "actors/http/http_client.hpp"

#include "messages/values/error_format.hpp"

#include <curl/curl.h>
#include <dlfcn.h>
#include <utility>

namespace kvferry {

namespace {

constexpr const char* library = "libcurl.so.4";
/// Of an answer: a few thousand listings.
constexpr std::size_t answer_bytes_max = std::size_t{8} << 20;
constexpr long connect_ms_max = 1000;
/// CURLOPT_QUICK_EXIT, which headers before 7.87 lack and libraries before it refuse: a call that
/// is over does not wait for the thread that looks up its name.
constexpr auto quick_exit = static_cast<CURLoption>(CURLOPTTYPE_LONG + 322);

struct curl_functions {
    decltype(&::curl_global_init) global_init = nullptr;
    decltype(&::curl_easy_init) init = nullptr;
    decltype(&::curl_easy_setopt) set = nullptr;
    decltype(&::curl_easy_perform) perform = nullptr;
    decltype(&::curl_easy_getinfo) get = nullptr;
    decltype(&::curl_easy_strerror) text_of = nullptr;
    decltype(&::curl_easy_cleanup) cleanup = nullptr;
    decltype(&::curl_slist_append) append = nullptr;
    decltype(&::curl_slist_free_all) free_all = nullptr;
    std::string problem;
};

curl_functions load() {
    curl_functions result;
    auto* handle = ::dlopen(library, RTLD_NOW | RTLD_LOCAL); // for the life of the process
    if (!handle) {
        result.problem = ::dlerror();
        return result;
    }
    const auto find = [&](auto& function, const char* name) {
        function =
            reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(handle, name));
        if (!function)
            result.problem = std::string{library} + " lacks " + name;
    };
    find(result.global_init, "curl_global_init");
    find(result.init, "curl_easy_init");
    find(result.set, "curl_easy_setopt");
    find(result.perform, "curl_easy_perform");
    find(result.get, "curl_easy_getinfo");
    find(result.text_of, "curl_easy_strerror");
    find(result.cleanup, "curl_easy_cleanup");
    find(result.append, "curl_slist_append");
    find(result.free_all, "curl_slist_free_all");
    if (result.problem.empty() && result.global_init(CURL_GLOBAL_ALL) != CURLE_OK)
        result.problem = "curl_global_init failed";
    return result;
}

const curl_functions& curl() {
    static const auto& loaded = *new curl_functions{load()};
    return loaded;
}

} // namespace

struct http_client::state {
    tls_files files;
    CURL* handle = nullptr;
    curl_slist* headers = nullptr;
    /// More than the number of an error says: which certificate, and what is wrong with it.
    char problem[CURL_ERROR_SIZE] = {};
    /// Of the request at hand; false ends it.
    std::function<bool(std::string_view)> part;

    ~state() {
        curl().free_all(headers);
        curl().cleanup(handle);
    }

    static std::size_t on_part(char* bytes, std::size_t size, std::size_t count, void* self) {
        const auto all = size * count;
        return static_cast<state*>(self)->part({bytes, all}) ? all : 0;
    }

    template <class Value>
    void set(CURLoption option, Value value) {
        curl().set(handle, option, value);
    }

    void prepare(const std::string& url, const std::string& json) {
        set(CURLOPT_URL, url.c_str());
        set(CURLOPT_POSTFIELDSIZE, static_cast<long>(json.size()));
        set(CURLOPT_POSTFIELDS, json.c_str());
        problem[0] = '\0';
    }

    /// False: out of memory.
    bool show(const std::string& token) {
        curl().free_all(std::exchange(headers, nullptr));
        // Without "Expect:" libcurl waits before it sends a long body.
        for (const auto& header : {std::string{"Content-Type: application/json"},
                                   std::string{"Expect:"}, "Authorization: " + token}) {
            if (token.empty() && header.starts_with("Authorization"))
                continue;
            auto* longer = curl().append(headers, header.c_str());
            if (!longer)
                return false;
            headers = longer;
        }
        set(CURLOPT_HTTPHEADER, headers);
        return true;
    }

    caf::error error_of(CURLcode code, const std::string& url) const {
        // With TLS 1.3 a server looks at the client's certificate when the client is done.
        double greeted = 0;
        curl().get(handle, CURLINFO_APPCONNECT_TIME, &greeted);
        const bool refused = greeted > 0 && code != CURLE_OPERATION_TIMEDOUT;
        return make_error(errc::dial_failed, "{}: {}{}", url.substr(0, url.find('/', 8)),
                          *problem != '\0' ? problem : curl().text_of(code),
                          refused ? ": it ended the connection after the TLS handshake; perhaps it "
                                    "asks for a certificate that it knows (cert_file, key_file)"
                                  : "");
    }
};

http_client::http_client(std::unique_ptr<state> x) : state_(std::move(x)) {}
http_client::http_client(http_client&&) noexcept = default;
http_client::~http_client() = default;

caf::expected<http_client> http_client::make(tls_files files) {
    if (!curl().problem.empty())
        return make_error(
            errc::unsupported,
            "etcd and collectors of spans are reached through libcurl: {}; install libcurl4",
            curl().problem);
    auto made = std::make_unique<state>();
    made->files = std::move(files);
    made->handle = curl().init();
    if (!made->handle || !made->show({}))
        return make_error(errc::system_call_failed, "curl_easy_init: out of memory");
    made->set(CURLOPT_ERRORBUFFER, static_cast<char*>(made->problem));
    made->set(CURLOPT_WRITEFUNCTION, &state::on_part);
    made->set(CURLOPT_WRITEDATA, static_cast<void*>(made.get()));
    made->set(CURLOPT_NOSIGNAL, 1L); // several threads
    made->set(CURLOPT_NOPROXY, "*"); // they are inside the deployment
    made->set(CURLOPT_CONNECTTIMEOUT_MS, connect_ms_max);
    made->set(quick_exit, 1L);
    const auto file = [&](CURLoption option, const std::string& name) {
        if (!name.empty())
            made->set(option, name.c_str());
    };
    file(CURLOPT_CAINFO, made->files.ca);
    file(CURLOPT_SSLCERT, made->files.cert);
    file(CURLOPT_SSLKEY, made->files.key);
    return http_client{std::move(made)};
}

void http_client::authorize(const std::string& token) {
    state_->show(token);
}

caf::expected<http_client::answer> http_client::post(const std::string& url,
                                                     const std::string& json,
                                                     std::chrono::milliseconds within) {
    answer result;
    state_->prepare(url, json);
    state_->set(CURLOPT_TIMEOUT_MS, static_cast<long>(std::max<std::int64_t>(within.count(), 1)));
    state_->part = [&result](std::string_view bytes) {
        result.body += bytes;
        return result.body.size() <= answer_bytes_max;
    };
    if (const auto code = curl().perform(state_->handle); code != CURLE_OK)
        return state_->error_of(code, url);
    curl().get(state_->handle, CURLINFO_RESPONSE_CODE, &result.status);
    return result;
}

caf::error http_client::follow(const std::string& url, const std::string& json,
                               std::function<bool(std::string_view)> part) {
    bool enough = false;
    state_->prepare(url, json);
    state_->set(CURLOPT_TIMEOUT_MS, 0L);
    state_->part = [&](std::string_view bytes) { return !(enough = !part(bytes)); };
    const auto code = curl().perform(state_->handle);
    if (enough)
        return {};
    return code == CURLE_OK ? make_error(errc::link_lost, "{} has ended its answer",
                                         url.substr(0, url.find('/', 8)))
                            : state_->error_of(code, url);
}

} // namespace kvferry

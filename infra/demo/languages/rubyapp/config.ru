# A service that puma runs: some of its gems load only when asked for, some never do.
require "sinatra/base"
require "multi_json"

class Service < Sinatra::Base
  set :environment, :production

  get("/health") { "ok" }
  # Metadata and data of a gem that nothing loads.
  get("/data") { Gem::Specification.find_by_name("tzinfo").summary }
  get("/late") { require "addressable/uri" and Addressable::URI.parse("http://demo/late").path }
  get("/modules") { MultiJson.dump(modules: $LOADED_FEATURES) }
end

run Service

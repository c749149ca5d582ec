package run

import "interlock/internal/web"

func (s *Service) pages(*web.Router) {}
